//! The enrolment ceremony, top to bottom: trust the city, have a key, ask, check, try, switch.
//!
//! It stores neither number nor code, so a continuation after a restart needs them again; the key is the same then, and
//! the city gives the same key the same certificate, so nothing is lost. It never repeats a refused attempt by itself.

use std::time::Duration;

use gateway_city::https::{HttpsConnection, expect_success};
use gateway_tpm::KeyBlob;
use http::Request;
use http::header::{ACCEPT, HeaderValue};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::certificate::{self, Checked, Use};
use crate::csr::{self, Wanted};
use crate::entry::{AccessCode, CertificateNumber, basic_credentials};
use crate::est::{Answer, Est};
use crate::failure::{Failure, ProvisioningError};
use crate::folder::{Held, Label, OnItsWay};
use crate::journal::{Purpose, Stage};
use crate::provisioner::{Desk, Provisioner, report};
use crate::status::{Outcome, Progress, State, Step};

/// The two clocks may differ by this much before the box's is called wrong.
const CLOCK_TOLERANCE: time::Duration = time::Duration::hours(24);

/// What the city told before anything secret was sent.
struct Greeted {
    est: Est,
    candidates: Vec<CertificateDer<'static>>,
}

impl Provisioner {
    /// Fetches the certificate for `number` and `code` and puts it to use under `label`. Continues where an earlier
    /// attempt stopped.
    ///
    /// # Errors
    /// Every [`Failure`]; each has its sentence, its next step and its code.
    pub async fn enrol(
        &self,
        label: &Label,
        number: CertificateNumber,
        code: AccessCode,
        progress: Progress<'_>,
    ) -> Result<Outcome, ProvisioningError> {
        let _alone = self.busy.lock().await;
        let pending = {
            let label = label.clone();
            self.blocking(move |desk| desk.ready_for_new(&label))
                .await?
        };
        if let Some(received) = pending.filter(OnItsWay::has_certificate) {
            // The certificate is here already; number and code are not needed and go nowhere.
            return self.finish(label, received, progress).await;
        }
        let greeted = self.greet().await?;
        report(progress, Step::CityTrusted)?;
        let key = self.pending_key(label, Purpose::Enrol).await?;
        report(progress, Step::KeyStored)?;
        let credentials = (number, code);
        let received = match self
            .ask(label, greeted, &key, &credentials, progress)
            .await?
        {
            Asked::Certificate(checked) => *checked,
            Asked::Waiting(until) => return Ok(Outcome::WaitingForApproval { until }),
        };
        // Spent, and wiped here.
        drop(credentials);
        let on_its_way = self.keep(label, received, progress).await?;
        self.finish(label, on_its_way, progress).await
    }

    /// Goes on with whatever can go on without number and code.
    ///
    /// # Errors
    /// [`Failure::EntryNeeded`] when number and code are needed; otherwise as [`Provisioner::enrol`].
    pub async fn resume(
        &self,
        label: &Label,
        progress: Progress<'_>,
    ) -> Result<Outcome, ProvisioningError> {
        let _alone = self.busy.lock().await;
        let of = label.clone();
        let (state, pending) = self
            .blocking(move |desk| {
                desk.refuse_while_decommissioning()?;
                let folder = desk.folder(&of)?;
                let status = desk.status()?;
                let line = status
                    .certificates
                    .into_iter()
                    .find(|line| line.label == of);
                let line = line.ok_or(Failure::NotProvisioned)?;
                if let Some(fault) = line.fault {
                    return Err(fault.into());
                }
                Ok((line.state, folder.on_its_way()?))
            })
            .await?;
        match (state, pending) {
            (_, Some(pending)) if pending.has_certificate() => {
                self.finish(label, pending, progress).await
            }
            (State::Renewing, Some(_)) => self.renew_one(label, progress).await,
            (_, Some(_)) => Err(Failure::EntryNeeded.into()),
            (State::AwaitingLan, None) => Ok(self.lan_after_switch(label, progress).await?),
            (State::Provisioned | State::Renewing, None) => Ok(Outcome::Provisioned),
            (State::Expired, None) => Err(Failure::Expired.into()),
            (State::Revoked, None) => Err(Failure::Revoked.into()),
            (State::KeyLost, None) => Err(Failure::KeyLost.into()),
            (_, None) => Err(Failure::NotProvisioned.into()),
        }
    }

    /// Connects to the enrolment server and learns what can be learnt without a secret.
    async fn greet(&self) -> Result<Greeted, ProvisioningError> {
        let config = self.desk.client_config(None)?;
        let mut est = Est::connect(
            &self.desk.config.city.est,
            config,
            self.desk.patience.timeouts,
        )
        .await?;
        let candidates = est.cacerts().await?;
        let (clock, city) = (self.desk.now(), est.date);
        if let Some(city) = city
            && (city - clock).abs() > CLOCK_TOLERANCE
        {
            return Err(Failure::ClockDiffers { clock, city }.into());
        }
        if !est.wants_p256().await? {
            return Err(Failure::CityUnintelligible.into());
        }
        Ok(Greeted { est, candidates })
    }

    /// The pending key of this purpose if it still loads, else a new one; durable either way.
    pub(crate) async fn pending_key(
        &self,
        label: &Label,
        purpose: Purpose,
    ) -> Result<KeyBlob, ProvisioningError> {
        let label = label.clone();
        self.blocking(move |desk| {
            let folder = desk.folder(&label)?;
            if let Some(pending) = folder.on_its_way()?
                && pending.purpose == purpose
                && desk.still_loads(&pending.key)?
            {
                return Ok(pending.key);
            }
            let key = desk.vault.generate()?;
            folder.begin(purpose, &key)?;
            Ok(key)
        })
        .await
    }

    /// Sends the request, waits for an approval for a while, and checks what comes back.
    async fn ask(
        &self,
        label: &Label,
        greeted: Greeted,
        key: &KeyBlob,
        (number, code): &(CertificateNumber, AccessCode),
        progress: Progress<'_>,
    ) -> Result<Asked, ProvisioningError> {
        let Greeted {
            mut est,
            candidates,
        } = greeted;
        let give_up = tokio::time::Instant::now() + self.desk.patience.approval;
        loop {
            if est.is_closed() {
                let config = self.desk.client_config(None)?;
                est = Est::connect(
                    &self.desk.config.city.est,
                    config,
                    self.desk.patience.timeouts,
                )
                .await?;
            }
            // A new request for each connection: it carries that connection's channel binding.
            let request = self
                .request(key, Wanted::default(), est.channel_binding())
                .await?;
            let basic = basic_credentials(number, code);
            let answer = est
                .enroll("/.well-known/est/simpleenroll", &request, Some(basic))
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(self.refused(label, error.into()).await),
            };
            report(progress, Step::Answered)?;
            match answer {
                Answer::Unauthorized => return Err(self.wrong_once_more(label).await),
                Answer::Certificates(received) => {
                    let checked = self.check(received, candidates, key)?;
                    return Ok(Asked::Certificate(Box::new(checked)));
                }
                Answer::Wait(wait) => {
                    let until = self.wait_until(label, wait).await?;
                    report(progress, Step::Waiting)?;
                    if tokio::time::Instant::now() + wait > give_up {
                        return Ok(Asked::Waiting(until));
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// A request for `key`, signed by the TPM and tied to one connection.
    pub(crate) async fn request(
        &self,
        key: &KeyBlob,
        wanted: Wanted,
        channel_binding: &[u8; 32],
    ) -> Result<Vec<u8>, ProvisioningError> {
        let (key, channel_binding) = (key.clone(), *channel_binding);
        self.blocking(move |desk| {
            let broken = |error| ProvisioningError::because(Failure::KeyLost, error);
            let info =
                csr::request_info(&key.spki_der(), &wanted, &channel_binding).map_err(broken)?;
            let signature = desk.vault.sign_csr(&key, &info)?;
            csr::assemble(&info, &signature).map_err(broken)
        })
        .await
    }

    pub(crate) fn check(
        &self,
        received: Vec<CertificateDer<'static>>,
        candidates: Vec<CertificateDer<'static>>,
        key: &KeyBlob,
    ) -> Result<Checked, ProvisioningError> {
        let desk = &self.desk;
        let checked = certificate::check(
            &received,
            &candidates,
            &key.spki_der(),
            Use::Facility,
            &desk.anchors,
            desk.now(),
        )?;
        let facility_id = checked
            .facts
            .facility_id
            .as_deref()
            .ok_or(Failure::CertificateForOtherFacility)?;
        desk.refuse_other_facility(facility_id)?;
        Ok(checked)
    }

    /// Makes the checked certificate durable.
    pub(crate) async fn keep(
        &self,
        label: &Label,
        checked: Checked,
        progress: Progress<'_>,
    ) -> Result<OnItsWay, ProvisioningError> {
        let of = label.clone();
        let on_its_way = self
            .blocking(move |desk| {
                let folder = desk.folder(&of)?;
                folder.receive(&checked.chain)?;
                folder
                    .on_its_way()?
                    .ok_or_else(|| Failure::JournalDamaged.into())
            })
            .await?;
        report(progress, Step::CertificateStored)?;
        Ok(on_its_way)
    }

    /// From a durable certificate to the end: try it, switch to it, fetch the LAN certificate.
    pub(crate) async fn finish(
        &self,
        label: &Label,
        on_its_way: OnItsWay,
        progress: Progress<'_>,
    ) -> Result<Outcome, ProvisioningError> {
        let held = on_its_way.held.ok_or(Failure::JournalDamaged)?;
        if on_its_way.stage != Stage::TrialPassed {
            match self.try_out(&held).await {
                Ok(()) => {}
                Err(error) => return self.trial_failed(label, error).await,
            }
            let of = label.clone();
            self.blocking(move |desk| desk.folder(&of)?.set_stage(Stage::TrialPassed))
                .await?;
            report(progress, Step::TrialPassed)?;
        }
        let of = label.clone();
        self.blocking(move |desk| desk.folder(&of)?.switch())
            .await?;
        report(progress, Step::Switched)?;
        self.lan_after_switch(label, progress).await
    }

    /// One connection to the gateway API with the new certificate, on which the city answers something that it answers
    /// only to a certificate in good standing. In TLS 1.3 the handshake alone proves nothing: the server's verdict
    /// comes after it.
    async fn try_out(&self, held: &Held) -> Result<(), ProvisioningError> {
        let desk = &self.desk;
        let config = desk.identity_config(held)?;
        let tried = async {
            let endpoint = &desk.config.city.gateway_api;
            let mut connection =
                HttpsConnection::connect(endpoint, config, desk.patience.timeouts).await?;
            let mut request = Request::new(Full::default());
            *request.uri_mut() = http::Uri::from_static("/gateway/v1/feed");
            request
                .headers_mut()
                .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            let response = connection.request(request).await?;
            expect_success(&endpoint.host, &desk.patience.timeouts, response)
                .await
                .map(drop)
        };
        match tried.await {
            Ok(()) => Ok(()),
            // The certificate is in order; what is suspended is the facility, and that ends without us.
            Err(error) if error.is_suspended() => Ok(()),
            Err(error) => Err(self.explain(error, &held.key).await),
        }
    }

    async fn trial_failed(
        &self,
        label: &Label,
        error: ProvisioningError,
    ) -> Result<Outcome, ProvisioningError> {
        match error.failure() {
            // This certificate will never work; the next attempt needs a new key and a new number.
            Failure::Revoked | Failure::Expired | Failure::KeyLost => {
                let of = label.clone();
                self.blocking(move |desk| desk.folder(&of)?.discard_pending())
                    .await?;
                Err(error)
            }
            failure => {
                tracing::warn!(%label, code = failure.code(), "the new certificate could not be tried yet");
                Ok(Outcome::AwaitingTrial(failure.clone()))
            }
        }
    }

    pub(crate) async fn lan_after_switch(
        &self,
        label: &Label,
        progress: Progress<'_>,
    ) -> Result<Outcome, ProvisioningError> {
        match self.ensure_lan(label, progress).await {
            Ok(_replaced) => Ok(Outcome::Provisioned),
            Err(error) if error.failure() == &Failure::Interrupted => Err(error),
            Err(error) => {
                tracing::warn!(%label, code = error.failure().code(), "the LAN certificate could not be fetched yet");
                Ok(Outcome::AwaitingLan(error.failure().clone()))
            }
        }
    }

    async fn wait_until(
        &self,
        label: &Label,
        wait: Duration,
    ) -> Result<OffsetDateTime, ProvisioningError> {
        let label = label.clone();
        self.blocking(move |desk| {
            let until = desk
                .now()
                .saturating_add(time::Duration::try_from(wait).unwrap_or(time::Duration::DAY));
            desk.folder(&label)?.set_stage(Stage::Waiting { until })?;
            Ok(until)
        })
        .await
    }

    /// Counts a 401. The count is only for the sentence; the city counts for itself.
    async fn wrong_once_more(&self, label: &Label) -> ProvisioningError {
        let label = label.clone();
        let counted = self
            .blocking(move |desk| {
                let folder = desk.folder(&label)?;
                folder.update(|journal| journal.wrong = journal.wrong.saturating_add(1).min(5))?;
                Ok(folder.journal()?.wrong)
            })
            .await;
        match counted {
            Ok(times) => Failure::WrongNumberOrCode { times }.into(),
            Err(error) => error,
        }
    }

    async fn refused(&self, label: &Label, error: ProvisioningError) -> ProvisioningError {
        if matches!(error.failure(), Failure::NumberLocked | Failure::NumberUsed) {
            let label = label.clone();
            let reset = self
                .blocking(move |desk| desk.folder(&label)?.update(|journal| journal.wrong = 0))
                .await;
            if let Err(error) = reset {
                return error;
            }
        }
        error
    }
}

enum Asked {
    Certificate(Box<Checked>),
    Waiting(OffsetDateTime),
}

impl OnItsWay {
    pub(crate) const fn has_certificate(&self) -> bool {
        matches!(self.stage, Stage::CertificateReceived | Stage::TrialPassed)
    }
}

impl Desk {
    /// Refuses to replace a certificate in good standing; returns what is on its way.
    pub(crate) fn ready_for_new(
        &self,
        label: &Label,
    ) -> Result<Option<OnItsWay>, ProvisioningError> {
        self.refuse_while_decommissioning()?;
        self.ensure_root()?;
        let status = self.status()?;
        let line = status.certificates.iter().find(|line| line.label == *label);
        if line.is_some_and(|line| line.state.is_usable()) {
            return Err(Failure::AlreadyProvisioned.into());
        }
        let pending = self.folder(label)?.on_its_way()?;
        let stale = pending
            .as_ref()
            .is_some_and(|pending| pending.purpose == Purpose::Renew);
        Ok(if stale { None } else { pending })
    }
}
