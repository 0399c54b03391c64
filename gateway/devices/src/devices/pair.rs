//! Letting devices in: asking, approving, fetching a certificate, renewing it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use der::Decode as _;
use gateway_policy::{DeviceId, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_cert::Certificate;
use zeroize::Zeroizing;

use super::{Devices, lock};
use crate::bundle::{self, FreshKey};
use crate::certificate_request::armoured;
use crate::database::Database;
use crate::pairing::{Asking, Collected, PairingState, State, Ticket, Waiting};
use crate::register::{Approved, Registered};
use crate::secret::{password, sha256};
use crate::{CertificateRequest, Error, Issued, Kind, Name, Origin, osquery};

/// What a device asks with, as it came.
pub(crate) struct Wish<'a> {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    /// A certificate request, PEM or base64.
    pub(crate) request: Option<&'a str>,
    /// A certificate that the city issued, with its chain, PEM.
    pub(crate) certificate: Option<&'a str>,
    pub(crate) hardware_uuid: Option<&'a str>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) peer: IpAddr,
}

impl Devices {
    /// Opens a request to be let in, from a page: the certificate will be a file. `None`: there are too many already.
    ///
    /// # Errors
    /// [`Error::NoRandomness`].
    pub fn start_pairing(
        &self,
        name: Name,
        kind: Kind,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Option<Ticket>, Error> {
        self.ask(
            &Wish {
                name,
                kind,
                request: None,
                certificate: None,
                hardware_uuid: None,
                device: None,
                peer,
            },
            now,
        )
    }

    /// A manager enters a certificate that the city issued for a PC, PEM with what is between it and the city's root: opens a
    /// request that has only to be approved. `None`: there are too many already.
    ///
    /// # Errors
    /// [`Error::Unfit`] for what the city has not issued or is not in force.
    pub fn start_with_certificate(
        &self,
        name: Name,
        kind: Kind,
        certificate: &str,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Option<Waiting>, Error> {
        let wish = Wish {
            name,
            kind,
            request: None,
            certificate: Some(certificate),
            hardware_uuid: None,
            device: None,
            peer,
        };
        match self.ask(&wish, now)? {
            Some(ticket) => self.pairing_with_code(&ticket.code, now).map(Some),
            None => Ok(None),
        }
    }

    /// Opens a request to be let in.
    pub(crate) fn ask(&self, wish: &Wish<'_>, now: Timestamp) -> Result<Option<Ticket>, Error> {
        let request = wish
            .request
            .map(CertificateRequest::from_text)
            .transpose()
            .map_err(|_| Error::Unfit("the certificate request cannot be used"))?;
        let of_city = wish
            .certificate
            .map(|text| self.certificate_of_the_city(text, now))
            .transpose()?;
        let hardware = wish
            .hardware_uuid
            .and_then(|uuid| osquery::hardware("uuid", uuid))
            .map(|hardware| {
                lock(&self.database)
                    .hasher
                    .tag("hardware", hardware.as_bytes())
            });
        let asking = Asking {
            name: wish.name.clone(),
            kind: wish.kind,
            request,
            of_city,
            hardware,
            same_as: wish.device,
            peer: wish.peer,
        };
        let ticket = lock(&self.pairings).start(asking, now)?;
        let opened = ticket.is_some();
        tracing::info!(
            event = "device-pairing",
            kind = wish.kind.word(),
            opened,
            "a device asks to be let in"
        );
        Ok(ticket)
    }

    /// Whether a chain ends at one of the city's authorities. That the device holds the key shows when it connects.
    fn certificate_of_the_city(&self, text: &str, now: Timestamp) -> Result<Registered, Error> {
        let unfit = || Error::Unfit("the certificate is not one of the city's");
        let chain = certificates(text).ok_or_else(unfit)?;
        let mut roots = RootCertStore::empty();
        for authority in &self.config.city_authorities {
            roots.add(authority.clone()).map_err(|_| unfit())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| unfit())?;
        let seconds = Duration::from_secs(u64::try_from(now.0).unwrap_or_default());
        let now = UnixTime::since_unix_epoch(seconds);
        // In any order: what comes out of PKCS#7 has none. An authority's own certificate is never taken for a PC's.
        let leaf = chain
            .iter()
            .find(|leaf| verifier.verify_client_cert(leaf, &chain, now).is_ok())
            .ok_or_else(unfit)?;
        let validity = Certificate::from_der(leaf)
            .map_err(|_| unfit())?
            .tbs_certificate
            .validity;
        let seconds = |time: x509_cert::time::Time| {
            Timestamp(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
        };
        Ok(Registered {
            fingerprint: sha256(leaf),
            origin: Origin::City,
            not_before: seconds(validity.not_before),
            not_after: seconds(validity.not_after),
        })
    }

    /// Requests that wait for a manager.
    #[must_use]
    pub fn waiting(&self, now: Timestamp) -> Vec<Waiting> {
        lock(&self.pairings).waiting(now)
    }

    /// The request of which a manager has typed the code.
    ///
    /// # Errors
    /// [`Error::NoSuchPairing`], [`Error::TooManyWrongCodes`].
    pub fn pairing_with_code(&self, code: &str, now: Timestamp) -> Result<Waiting, Error> {
        let found = lock(&self.pairings).with_code(code, now);
        if found.is_err() {
            tracing::warn!(event = "device-pairing", "a wrong pairing code was typed");
        }
        found
    }

    /// Lets the device of a request in; answers with its pseudonym.
    ///
    /// # Errors
    /// [`Error::NoSuchPairing`], [`Error::Full`], [`Error::Taken`], [`Error::Unfit`], [`Error::NotRecorded`].
    pub fn approve(
        &self,
        pairing: &str,
        manager: bool,
        by: &str,
        now: Timestamp,
    ) -> Result<DeviceId, Error> {
        let mut pairings = lock(&self.pairings);
        let open = pairings.waiting_for_manager(pairing, now)?;
        let asking = &open.asking;
        let mut database = lock(&self.database);
        // A certificate that is known tells which device it is, whatever else is said.
        let same_as = match &asking.of_city {
            Some(certificate) => database.owner_of(&certificate.fingerprint)?,
            None => None,
        };
        let device = database.register(
            &Approved {
                name: &asking.name,
                kind: asking.kind,
                manager,
                hardware: asking.hardware,
                by,
                at: now,
                same_as: same_as.or(asking.same_as),
            },
            |id, what| self.beforehand(id, what),
        )?;
        if let Some(certificate) = &asking.of_city {
            database.add_certificate(device, certificate)?;
        }
        self.republish(&database)?;
        drop(database);
        let needs_file = asking.request.is_none() && asking.of_city.is_none();
        let password = needs_file.then(password).transpose()?;
        tracing::info!(event = "device-registered", device = %device, kind = asking.kind.word(), manager, "a device is registered");
        open.approve(device, password, now);
        Ok(device)
    }

    /// Refuses a request.
    ///
    /// # Errors
    /// [`Error::NoSuchPairing`].
    pub fn refuse(&self, pairing: &str, now: Timestamp) -> Result<(), Error> {
        let mut pairings = lock(&self.pairings);
        pairings.waiting_for_manager(pairing, now)?.state = State::Refused;
        tracing::info!(event = "device-pairing", "a manager refused a device");
        Ok(())
    }

    /// How the request of a device stands.
    #[must_use]
    pub fn pairing(&self, token: &str, now: Timestamp) -> PairingState {
        lock(&self.pairings).state(token, now)
    }

    /// What an approved device asked for. It is made once; until the request ends it can be fetched again, unchanged, for
    /// browsers load a file twice and lines break.
    ///
    /// # Errors
    /// [`Error::NoSuchPairing`] unless approved; [`Error::Vault`] or [`Error::Certificate`] while the TPM does not sign:
    /// then asking again may help.
    pub(crate) fn collect(&self, token: &str, now: Timestamp) -> Result<Collected, Error> {
        self.ready_authority(now)?;
        let mut pairings = lock(&self.pairings);
        let open = pairings.of(token, now).ok_or(Error::NoSuchPairing)?;
        let asking = &open.asking;
        let State::Approved {
            device,
            password,
            collected,
        } = &mut open.state
        else {
            return Err(Error::NoSuchPairing);
        };
        if let Some(made) = collected {
            return Ok(made.clone());
        }
        let made = match (&asking.of_city, &asking.request, password.as_deref()) {
            (Some(_), ..) => Collected::Nothing,
            (None, Some(request), _) => {
                let issued = self.issue(*device, asking.kind, request.key(), now)?;
                Collected::Chain(issued.chain)
            }
            (None, None, Some(password)) => {
                let key = FreshKey::make()?;
                let issued = self.issue(*device, asking.kind, &key, now)?;
                let anchors = &self.config.anchors;
                let file =
                    bundle::make(asking.kind, *device, &key, &issued.chain, anchors, password)?;
                Collected::Bundle(file)
            }
            (None, None, None) => return Err(Error::NoSuchPairing),
        };
        *collected = Some(made.clone());
        Ok(made)
    }

    /// The certificate file of an approved request.
    ///
    /// # Errors
    /// As collecting; [`Error::NoSuchPairing`] also for a device that brought a key of its own.
    pub fn certificate_file(&self, token: &str, now: Timestamp) -> Result<crate::Bundle, Error> {
        match self.collect(token, now)? {
            Collected::Bundle(file) => Ok(file),
            Collected::Chain(_) | Collected::Nothing => Err(Error::NoSuchPairing),
        }
    }

    /// The device has what it came for.
    pub(crate) fn end_pairing(&self, token: &str) {
        lock(&self.pairings).end(token);
    }

    /// Another certificate for a device in good standing that has shown its present one.
    pub(crate) fn renew(
        &self,
        device: DeviceId,
        request: &CertificateRequest,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        self.ready_authority(now)?;
        let found = self.in_good_standing(device)?;
        self.issue(device, found.kind, request.key(), now)
    }

    /// Another certificate file for a device that holds no key it could make a request with.
    pub(crate) fn renew_file(
        &self,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<(crate::Bundle, Zeroizing<String>), Error> {
        self.ready_authority(now)?;
        let found = self.in_good_standing(device)?;
        let (key, password) = (FreshKey::make()?, password()?);
        let issued = self.issue(device, found.kind, &key, now)?;
        let anchors = &self.config.anchors;
        let file = bundle::make(found.kind, device, &key, &issued.chain, anchors, &password)?;
        Ok((file, password))
    }

    pub(crate) fn in_good_standing(&self, device: DeviceId) -> Result<crate::Device, Error> {
        self.device(device)?
            .filter(|device| device.revoked.is_none())
            .ok_or(Error::NoSuchDevice)
    }

    /// Issues and registers: a certificate that is not in the register identifies nobody, so none is given out before.
    fn issue(
        &self,
        device: DeviceId,
        kind: Kind,
        key: &impl rcgen::PublicKeyData,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let issued = {
            let authority = lock(&self.authority);
            let authority = authority.as_ref().ok_or(Error::NoSuchPairing)?;
            authority.issue(device, kind, key, now)
        };
        let issued = issued.inspect_err(|_| self.doubt_authority())?;
        let leaf = issued.chain.first().ok_or(Error::Damaged("a chain"))?;
        let mut database: std::sync::MutexGuard<'_, Database> = lock(&self.database);
        database.add_certificate(
            device,
            &Registered {
                fingerprint: sha256(leaf),
                origin: Origin::Box,
                not_before: issued.not_before,
                not_after: issued.not_after,
            },
        )?;
        self.republish(&database)?;
        drop(database);
        tracing::info!(event = "device-certificate", device = %device, not_after = issued.not_after.0, "a device certificate is issued");
        Ok(issued)
    }
}

/// All certificates of a PEM text, at most four.
fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    text.split(BEGIN)
        .skip(1)
        .take(4)
        .map(|part| armoured(&format!("{BEGIN}{part}")).map(CertificateDer::from))
        .collect()
}
