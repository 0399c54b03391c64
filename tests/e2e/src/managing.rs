//! The manager at the box's own pages: signing in, and pictures of what they show.

use test_harness::facility::Facility;

use crate::browsing::{Result, Window};
use crate::signing_in;

/// Signs the manager in at the notebook and goes over to the box's own pages.
///
/// # Errors
/// When the browser cannot.
///
/// # Panics
/// When the city knows no manager of the facility.
pub async fn sign_in_as_manager(facility: &Facility, window: &Window) -> Result<()> {
    signing_in::at_the_notebook(facility, window, signing_in::seeded(facility, "manager")).await?;
    let portal = facility.gateway.portal_url();
    let stored = format!("{portal}.well-known/renraku-gateway/notes");
    // The box has to hear of the manager over the feed before it knows the name.
    window
        .until("the box's own pages", async || {
            let _ = window.visit(&stored).await;
            window.text().await.contains("閲覧を終わる").then_some(())
        })
        .await
}

/// The page as on a PC and as on a telephone, each as wide as its screen.
///
/// # Errors
/// When the browser cannot.
///
/// # Panics
/// When the page is wider than the screen.
pub async fn photograph(window: &Window, name: &str) -> Result<()> {
    for (device, width) in [("pc", 1100), ("phone", 500)] {
        window.resize(width, 1000).await?;
        let script =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        let over = window.run(script).await?.as_i64();
        assert_eq!(over, Some(0), "{name} is wider than a {device}");
        let script = "return document.documentElement.scrollHeight";
        let height = window.run(script).await?.as_u64().unwrap_or(1000);
        let height = u32::try_from(height).unwrap_or(1000).clamp(700, 4000) + 140;
        window.resize(width, height).await?;
        window
            .photograph(&format!("manager-{name}-{device}"))
            .await?;
    }
    window.resize(1100, 1000).await
}
