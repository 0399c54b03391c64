//! People signing in at the notebook, in a real browser, through the box.

use test_harness::facility::Facility;

use crate::browsing::{Result, Window};
use crate::visiting::password;

/// The first of the facility's seeded people with this role.
///
/// # Panics
/// When the city has none.
#[must_use]
pub fn seeded<'a>(facility: &'a Facility, role: &str) -> &'a str {
    let described = facility.city.described();
    let ours = &described["numbers"][0]["facility"];
    described["users"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|user| &user["facility"] == ours && user["role"] == role)
        .and_then(|user| user["user_id"].as_str())
        .expect("the city has people of each role in each facility")
}

/// Signs somebody in at the notebook.
///
/// # Errors
/// When the browser cannot, or the list of persons does not come.
pub async fn at_the_notebook(facility: &Facility, window: &Window, user: &str) -> Result<()> {
    let portal = facility.gateway.portal_url();
    window.visit(&format!("{portal}staff/login")).await?;
    window.type_into("#user_id", user).await?;
    window
        .type_into("#password", &password(facility, user))
        .await?;
    window.click("#sign-in").await?;
    window.element("#persons").await.map(drop)
}
