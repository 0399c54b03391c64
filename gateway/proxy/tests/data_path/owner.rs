//! Sites that are not the city's: what they are shown, and what they are believed.

use std::{net::SocketAddr, sync::Arc};

use gateway_proxy::Owner;
use http::Version;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{Client, full},
    stand::{Authority, CITY, Setup, Stand},
};

/// Asks every client for a certificate of the box's authority, takes those without, tells which came, and claims each time that
/// somebody has signed in.
async fn curious(shows: &Authority, asks_for: &Authority) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(asks_for.der()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let pair = shows.server(&[CITY]);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain, pair.key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else {
                    return;
                };
                let shown = tls.get_ref().1.peer_certificates().is_some();
                let body = if shown { "shown" } else { "nothing" };
                let mut buffer = [0; 4096];
                while tls.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nSet-Cookie: sid=s3cret\r\n\
                         Renraku-Staff: \"u-7\"; role=staff; cookie=\"sid\"; until=1900000000\r\n\
                         Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if tls.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn who_asks_at_the_door(stand: &Stand) -> String {
    let mut client = Client::connect(stand, Version::HTTP_2).await;
    let request = client
        .request("GET", CITY, "/.well-known/renraku-gateway/notes")
        .header("cookie", "sid=s3cret")
        .body(full(""))
        .unwrap();
    client.answer(request).await.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_not_the_citys_is_never_shown_the_facility_certificate() {
    let (setup, other) = (Setup::new(), Authority::new("another authority"));
    let origin = curious(&other, &setup.authority).await;
    let owner = Owner::Other {
        roots: vec![other.der()],
    };
    let stand = Setup { owner, ..setup }.start(origin);
    // A new identity must not change that.
    for _ in 0..2 {
        let answer = Client::connect(&stand, Version::HTTP_2)
            .await
            .get("/staff")
            .await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "nothing"));
        let identity = stand.authority.client("facility 18").identity();
        stand.running().set_identity(Some(identity)).unwrap();
    }
    assert_eq!(stand.running().signatures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_not_the_citys_can_sign_nobody_in() {
    let (setup, other) = (Setup::new(), Authority::new("another authority"));
    let origin = curious(&other, &setup.authority).await;
    let owner = Owner::Other {
        roots: vec![other.der()],
    };
    let stand = Setup { owner, ..setup }.start(origin);
    let answer = Client::connect(&stand, Version::HTTP_2)
        .await
        .get("/staff")
        .await;
    assert!(!answer.headers.contains_key("renraku-staff"));
    assert!(who_asks_at_the_door(&stand).await.ends_with(" nobody"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_city_is_shown_the_facility_certificate_and_believed() {
    let setup = Setup::new();
    let origin = curious(&setup.authority, &setup.authority).await;
    let stand = setup.start(origin);
    let answer = Client::connect(&stand, Version::HTTP_2)
        .await
        .get("/staff")
        .await;
    assert_eq!(answer.text(), "shown");
    assert!(who_asks_at_the_door(&stand).await.ends_with(" u-7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_citys_authority_does_not_vouch_for_other_sites_nor_they_for_the_city() {
    for (shows_other, owner_is_other) in [(true, false), (false, true)] {
        let (setup, other) = (Setup::new(), Authority::new("another authority"));
        let shows = if shows_other {
            &other
        } else {
            &setup.authority
        };
        let origin = curious(shows, &setup.authority).await;
        let owner = if owner_is_other {
            Owner::Other {
                roots: vec![other.der()],
            }
        } else {
            Owner::City
        };
        let stand = Setup { owner, ..setup }.start(origin);
        let answer = Client::connect(&stand, Version::HTTP_2)
            .await
            .get("/staff")
            .await;
        assert_eq!(answer.status, 502);
    }
}
