//! Renewal: a new key in the empty slot, certified on the strength of the old certificate (RFC 7030 §4.2.2).
//!
//! The old key stays until the city has accepted the new certificate once. It asks for no number: an expired or revoked
//! certificate cannot be renewed, only replaced.

use crate::csr::Wanted;
use crate::est::{Answer, Est};
use crate::failure::{Failure, ProvisioningError};
use crate::folder::Label;
use crate::journal::{Purpose, TroubleKind};
use crate::provisioner::{Desk, Provisioner, report};
use crate::renewal;
use crate::status::{Outcome, Progress, State, Step};

/// What became of one certificate in a round of renewals.
#[derive(Debug)]
pub enum Renewal {
    /// Not due before this moment.
    NotDue {
        /// From when it will be.
        due: time::OffsetDateTime,
    },
    /// Renewed; configurations of the old identity must be replaced now.
    Renewed,
    /// The new certificate is on its way; goes on at the next round.
    OnItsWay(Outcome),
    /// Failed; the old certificate stays in use until its end.
    Failed(ProvisioningError),
}

/// What a round of renewals did.
#[derive(Debug)]
pub struct Renewals {
    /// One entry for each certificate in use.
    pub certificates: Vec<(Label, Renewal)>,
    /// True when the LAN server certificate was replaced: load it anew.
    pub lan_replaced: bool,
    /// Why the LAN server certificate could not be replaced although it was due.
    pub lan_failed: Option<ProvisioningError>,
}

impl Provisioner {
    /// Renews what is due, finishes renewals that a cut interrupted, and replaces the LAN certificate when it is due.
    /// Call it every hour or so; on most calls it only reads the disk.
    ///
    /// # Errors
    /// Only when nothing could be looked at; failures of single certificates are in the result.
    pub async fn renew_if_due(
        &self,
        progress: Progress<'_>,
    ) -> Result<Renewals, ProvisioningError> {
        self.renew(false, progress).await
    }

    /// As [`Provisioner::renew_if_due`], but every certificate is taken as due.
    ///
    /// # Errors
    /// As [`Provisioner::renew_if_due`].
    pub async fn renew_now(&self, progress: Progress<'_>) -> Result<Renewals, ProvisioningError> {
        self.renew(true, progress).await
    }

    async fn renew(
        &self,
        now: bool,
        progress: Progress<'_>,
    ) -> Result<Renewals, ProvisioningError> {
        let _alone = self.busy.lock().await;
        self.blocking(|desk| desk.refuse_while_decommissioning())
            .await?;
        let status = self.status().await?;
        let before = status.lan_not_after;
        let mut certificates = Vec::new();
        let mut for_lan = None;
        for line in status.certificates {
            let Some(identity) = line.identity else {
                continue;
            };
            let due = renewal::due(
                identity.not_before,
                identity.not_after,
                identity
                    .chain
                    .first()
                    .map_or(0.0, |leaf| renewal::jitter_of(leaf)),
            );
            let renewal = match line.state {
                State::Expired => Renewal::Failed(Failure::Expired.into()),
                State::Revoked => Renewal::Failed(Failure::Revoked.into()),
                State::KeyLost => Renewal::Failed(Failure::KeyLost.into()),
                // A replacement by number is under way.
                state if !state.is_usable() => continue,
                State::Renewing => self.renew_reported(&line.label, progress).await,
                _ if now || due <= self.desk.now() => {
                    self.renew_reported(&line.label, progress).await
                }
                _ => Renewal::NotDue { due },
            };
            let usable = !matches!(&renewal, Renewal::Failed(error)
                if matches!(error.failure(), Failure::Expired | Failure::Revoked | Failure::KeyLost));
            if usable && for_lan.is_none() {
                for_lan = Some(line.label.clone());
            }
            certificates.push((line.label, renewal));
        }
        let lan = match for_lan {
            Some(label) => self.ensure_lan(&label, progress).await,
            None => Ok(false),
        };
        // A renewed certificate may have brought the LAN certificate up to date on its way.
        let after = self.status().await?.lan_not_after;
        let lan_replaced = matches!(lan, Ok(true)) || after != before;
        Ok(Renewals {
            certificates,
            lan_replaced,
            lan_failed: lan.err(),
        })
    }

    async fn renew_reported(&self, label: &Label, progress: Progress<'_>) -> Renewal {
        match self.renew_one(label, progress).await {
            Ok(Outcome::Provisioned | Outcome::AwaitingLan(_)) => Renewal::Renewed,
            Ok(outcome) => Renewal::OnItsWay(outcome),
            Err(error) => {
                tracing::warn!(%label, code = error.failure().code(), "renewal failed");
                Renewal::Failed(error)
            }
        }
    }

    pub(crate) async fn renew_one(
        &self,
        label: &Label,
        progress: Progress<'_>,
    ) -> Result<Outcome, ProvisioningError> {
        let of = label.clone();
        let (old, pending) = self
            .blocking(move |desk| {
                let folder = desk.folder(&of)?;
                let old = folder.active()?.ok_or(Failure::NotProvisioned)?;
                Ok((
                    old,
                    folder
                        .on_its_way()?
                        .filter(|pending| pending.purpose == Purpose::Renew),
                ))
            })
            .await?;
        if let Some(received) = pending.filter(super::folder::OnItsWay::has_certificate) {
            return self.finish(label, received, progress).await;
        }
        let key = self.pending_key(label, Purpose::Renew).await?;
        report(progress, Step::KeyStored)?;
        let desk = &self.desk;
        let config = desk.identity_config(&old)?;
        let connected = Est::connect(&desk.config.city.est, config, desk.patience.timeouts).await;
        let mut est = match connected {
            Ok(est) => est,
            Err(error) => return Err(self.old_certificate_failed(label, &old, error).await),
        };
        let wanted = Wanted {
            subject: old.facts.subject.clone(),
            subject_alt_name: old.facts.subject_alt_name.clone(),
        };
        let request = self.request(&key, wanted, est.channel_binding()).await?;
        let answered = async {
            let answer = est
                .enroll("/.well-known/est/simplereenroll", &request, None)
                .await?;
            Ok::<_, gateway_city::CityError>((answer, est.cacerts().await?))
        };
        let (answer, candidates) = match answered.await {
            Ok(answered) => answered,
            Err(error) => return Err(self.old_certificate_failed(label, &old, error).await),
        };
        report(progress, Step::Answered)?;
        let received = match answer {
            Answer::Certificates(received) => received,
            Answer::Wait(wait) => {
                let until = desk
                    .now()
                    .saturating_add(time::Duration::try_from(wait).unwrap_or(time::Duration::DAY));
                return Ok(Outcome::WaitingForApproval { until });
            }
            Answer::Unauthorized => return Err(Failure::CertificateRefused.into()),
        };
        let checked = self.check(received, candidates, &key)?;
        // "The subject field and subjectAltName extension MUST be identical" (§4.2.2).
        if checked.facts.facility_id != old.facts.facility_id {
            return Err(Failure::CertificateForOtherFacility.into());
        }
        let on_its_way = self.keep(label, checked, progress).await?;
        self.finish(label, on_its_way, progress).await
    }

    async fn old_certificate_failed(
        &self,
        label: &Label,
        old: &crate::folder::Held,
        error: gateway_city::CityError,
    ) -> ProvisioningError {
        let error = self.explain(error, &old.key).await;
        let kind = match error.failure() {
            Failure::Revoked => TroubleKind::Revoked,
            Failure::KeyLost => TroubleKind::KeyLost,
            _ => return error,
        };
        let (label, serial) = (label.clone(), old.facts.serial.clone());
        let noted = self
            .blocking(move |desk: &Desk| {
                desk.note_trouble(&label, &serial, kind)?;
                desk.folder(&label)?.discard_pending()
            })
            .await;
        noted.err().unwrap_or(error)
    }
}
