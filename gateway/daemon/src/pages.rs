//! Carries requests for the box's own pages from the data path to the console, and the answers back. Decides nothing.

use std::sync::Arc;

use gateway_console::{Console, ConsoleRequest, Staff, Streamed, ViewId};
use gateway_proxy::{LocalPages, LocalPieces, LocalRequest, LocalResponse, Role};
use http::header;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The console behind the data path.
#[derive(Debug)]
pub(crate) struct Pages {
    console: Arc<Console>,
    runtime: Handle,
}

impl Pages {
    /// Pages are made on `runtime`, so that a slow one never holds up a data thread; those that are never slow, where they are
    /// asked for.
    #[must_use]
    pub(crate) const fn new(console: Arc<Console>, runtime: Handle) -> Self {
        Self { console, runtime }
    }
}

impl LocalPages for Pages {
    fn respond(&self, request: LocalRequest) -> LocalResponse {
        let console = Arc::clone(&self.console);
        let request = console_request(request);
        if request.is_light() {
            // To wake another thread would cost more than to answer here.
            return Box::pin(async move { console.respond(request).await });
        }
        let runtime = self.runtime.clone();
        let answer = self
            .runtime
            .spawn(async move { console.respond(request).await });
        Box::pin(async move {
            let mut page = answer.await.unwrap_or_else(|_| {
                let mut gone = http::Response::default();
                *gone.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                gone
            });
            if let Some(streamed) = page.extensions_mut().remove::<Streamed>() {
                page.extensions_mut().insert(stream(&streamed, &runtime));
            }
            page
        })
    }
}

/// Reads a body on `runtime` while the data path sends it, two pieces ahead at most.
fn stream(streamed: &Streamed, runtime: &Handle) -> LocalPieces {
    let (send, coming) = mpsc::channel(2);
    let mut body = streamed.take();
    let length = body.as_ref().map_or(0, gateway_console::StreamedBody::left);
    runtime.spawn(async move {
        while let Some(body) = &mut body
            && let Some(piece) = body.next().await
        {
            if send.send(piece).await.is_err() {
                return;
            }
        }
    });
    LocalPieces::new(length, coming)
}

fn console_request(request: LocalRequest) -> ConsoleRequest {
    let LocalRequest {
        method,
        uri,
        host,
        headers,
        body,
        peer,
        device,
        staff,
    } = request;
    // HTTP/2 names the authority in the target, HTTP/1.1 in Host; the data path has made sure that they agree.
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let named = || {
        headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    ConsoleRequest {
        method,
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        host: authority.or_else(named).unwrap_or(host),
        headers,
        body,
        peer,
        staff: staff.map(|staff| Staff {
            user: staff.user.clone(),
            role: match staff.role {
                Role::Manager => gateway_notes::Role::Manager,
                Role::Staff => gateway_notes::Role::Staff,
            },
            until: staff.until,
        }),
        device,
        view: ViewId::default(),
    }
}
