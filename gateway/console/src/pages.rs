//! The pages as askama templates: what each needs to be rendered. Decides nothing and asks nobody.

use askama::Template;
use gateway_policy::Timestamp;
use gateway_policy::calendar::{next_support, support_is_open};

use crate::compliance::Group;
use crate::console::Config;
use crate::moment::{day, minute, minute_and_machine};
use crate::response::{SCRIPT, STYLE};
use crate::words::{Headline, Row};
use crate::{Certificate, Message, ViewId};

/// What stands around every page.
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    /// The entry of the navigation that this page belongs to.
    pub(crate) here: &'a str,
    /// The page reloads itself after this many seconds.
    pub(crate) refresh: Option<u32>,
    /// The name of whoever is signed in.
    pub(crate) reader: Option<String>,
    pub(crate) style: &'static str,
    /// What the page calls itself when it is left; only where somebody is signed in.
    pub(crate) view: Option<ViewId>,
    /// There is a page for the reader's own offline PIN.
    pub(crate) own_pin: bool,
    pub(crate) script: &'static str,
    /// On the notebook's origin there are no pages of ours to navigate to.
    pub(crate) navigation: bool,
    /// The facility's manager is signed in, and these parts of the box have pages.
    pub(crate) managed: Managed,
    /// The navigation leads to what is for registered devices.
    pub(crate) admitted: bool,
    /// Until when break-glass is open.
    pub(crate) break_glass: Option<String>,
    pub(crate) office: &'a str,
    pub(crate) phone: &'a str,
    pub(crate) support: String,
}

/// Which entries the navigation has for a manager.
#[derive(Clone, Copy, Default)]
pub(crate) struct Managed {
    pub(crate) devices: bool,
    pub(crate) registers: bool,
    pub(crate) report: bool,
    pub(crate) accesses: bool,
    pub(crate) break_glass: bool,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(config: &'a Config, title: &'a str, here: &'a str, now: Timestamp) -> Self {
        let support = if support_is_open(now) {
            "ただいま受付時間内です".to_owned()
        } else {
            format!(
                "ただいま受付時間外です。次は{}から",
                minute(next_support(now))
            )
        };
        Self {
            title,
            here,
            refresh: None,
            reader: None,
            style: STYLE,
            view: None,
            own_pin: false,
            script: SCRIPT,
            navigation: true,
            managed: Managed::default(),
            admitted: true,
            break_glass: None,
            office: &config.support_office,
            phone: &config.support_phone,
            support,
        }
    }

    /// The `aria-current` of one entry of the navigation.
    pub(crate) fn current(&self, entry: &str) -> &'static str {
        if self.here == entry { "page" } else { "false" }
    }
}

#[derive(Template)]
#[template(path = "home.html")]
pub(crate) struct Home<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) headline: Headline,
    /// The articles are shown once the manager has signed in.
    pub(crate) hint: bool,
    /// Articles 23 to 29, one row each.
    pub(crate) groups: Vec<Group>,
    pub(crate) rows: Vec<Row>,
    pub(crate) stored: String,
}

#[derive(Template)]
#[template(path = "setup.html")]
pub(crate) struct Setup<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) ready: bool,
    pub(crate) running: Option<String>,
    pub(crate) failure: Option<Message>,
    pub(crate) certificates: Vec<CertificateView>,
    pub(crate) form: bool,
    pub(crate) code_required: bool,
}

#[derive(Template)]
#[template(path = "import.html")]
pub(crate) struct Import<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) failure: Option<Message>,
    pub(crate) code_required: bool,
}

#[derive(Template)]
#[template(path = "certificates.html")]
pub(crate) struct Certificates<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) certificates: Vec<CertificateView>,
    /// There is a page for the end of service, for whoever asks.
    pub(crate) leaving: bool,
    /// There is a page for the recovery key, for whoever asks.
    pub(crate) recovery: bool,
}

pub(crate) struct CertificateView {
    pub(crate) label: String,
    pub(crate) state: String,
    pub(crate) usable: bool,
    pub(crate) holder: String,
    pub(crate) facility_id: String,
    pub(crate) serial: String,
    pub(crate) provenance: &'static str,
    pub(crate) imported: bool,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) warning: Option<String>,
}

impl From<Certificate> for CertificateView {
    fn from(certificate: Certificate) -> Self {
        Self {
            provenance: certificate.provenance.label(),
            imported: certificate.provenance == crate::Provenance::Imported,
            not_before: day(certificate.not_before),
            not_after: day(certificate.not_after),
            label: certificate.label,
            state: certificate.state,
            usable: certificate.usable,
            holder: certificate.holder,
            facility_id: certificate.facility_id,
            serial: certificate.serial,
            warning: certificate.warning,
        }
    }
}

/// What every page with stored notes says first.
pub(crate) struct Banner {
    /// When the box was last level with the city.
    pub(crate) fetched: Option<String>,
    /// Since when the city cannot be reached.
    pub(crate) outage: Option<String>,
    /// Until when stored notes can be read if the city does not answer before.
    pub(crate) until: Option<String>,
    /// The notebook itself, to be used while it can be reached.
    pub(crate) notebook: String,
    /// That the store is filled anew beside what is read here; empty when it is not.
    pub(crate) rebuilding: String,
}

/// A time for people and for programs.
pub(crate) struct Time {
    pub(crate) shown: String,
    pub(crate) machine: String,
}

impl From<i64> for Time {
    fn from(seconds: i64) -> Self {
        let (shown, machine) = minute_and_machine(Timestamp(seconds));
        Self { shown, machine }
    }
}

#[derive(Template)]
#[template(path = "notices.html")]
pub(crate) struct Notices<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) notices: Vec<gateway_notes::Notice>,
    pub(crate) fetched: Option<String>,
    pub(crate) signed_in: bool,
}

/// A page with one sentence and one next step: sign in first, nothing to read, a failure.
#[derive(Template)]
#[template(path = "plain.html")]
pub(crate) struct Plain<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) sentence: &'a str,
    pub(crate) next: &'a str,
    /// Address and label.
    pub(crate) link: Option<(String, &'a str)>,
    pub(crate) support_code: Option<String>,
}
