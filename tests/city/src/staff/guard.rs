//! The door of everything that needs a facility certificate: its register is asked on every request.
//!
//! Does not know users; that is `session`.

use crate::city::City;
use crate::problem::Problem;
use crate::store::access::{self, Standing};
use crate::times;
use crate::tls::{ClientCertificate, Facts};
use axum::http::StatusCode;
use std::sync::Arc;

/// The facility certificate of a connection, if it is in force now. A resumed session brings an old certificate back
/// unasked, so this is looked up for every request and not once per connection.
///
/// # Errors
/// A problem that tells missing, revoked, expired and suspended apart.
pub async fn certificate<'a>(
    city: &Arc<City>,
    facts: &'a Facts,
) -> Result<&'a ClientCertificate, Problem> {
    let Some(certificate) = &facts.certificate else {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "certificate-required",
            "このページは、電子証明書のある利用事業所からだけ開けます。",
            "事業所管理者に、電子証明書の設定を確かめてもらってください。",
        ));
    };
    let serial = certificate.serial.clone();
    let now = times::now();
    match city
        .store
        .run(move |c| access::standing(c, &serial, now))
        .await?
    {
        Standing::Good => Ok(certificate),
        Standing::FacilitySuspended => Err(facility_suspended()),
        Standing::Expired => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "certificate-expired",
            "電子証明書の期限が切れています。",
            "市に新しい電子証明書取得用番号の発行を依頼してください。",
        )),
        Standing::Unknown | Standing::Revoked => {
            tracing::warn!(
                serial = certificate.serial,
                facility = certificate.facility,
                "revoked certificate used"
            );
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "certificate-revoked",
                "この電子証明書は失効しています。",
                "事業所管理者から市へお問い合わせください。",
            ))
        }
    }
}

/// A suspended facility (Art. 35).
#[must_use]
pub fn facility_suspended() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "facility-suspended",
        "この利用事業所の利用は停止されています。",
        "事業所管理者から市へお問い合わせください。",
    )
}
