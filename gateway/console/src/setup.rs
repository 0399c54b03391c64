//! Setting up: the form for number and access code, the import of a PKCS#12 file, and how it goes on.
//!
//! It does not check what was typed; the desk does, and says what was wrong in one sentence.

use http::{StatusCode, header};

use crate::console::Console;
use crate::pages::{Import, Setup};
use crate::response::{Fault, Page, see_other};
use crate::{ConsoleRequest, Entry, Message, SetupStatus, form};

/// Number, access code and set-up code are some dozen characters; encoded, each may take nine bytes.
const LARGEST_FORM: usize = 4 * 1024;
/// A PKCS#12 file with one key and a chain takes some kilobytes.
const LARGEST_IMPORT: usize = 256 * 1024;
/// While something runs the page reloads itself, in seconds.
const REFRESH: u32 = 2;

impl Console {
    pub(crate) async fn setup_page(
        &self,
        request: &ConsoleRequest,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let setup = self.desk.setup().await;
        let may_enter = self.may_enter(&setup, request);
        let status = failure
            .as_ref()
            .map_or(StatusCode::OK, |_| StatusCode::UNPROCESSABLE_ENTITY);
        let mut frame = self.frame("初期設定", "setup", request).await;
        frame.refresh = setup.running.as_ref().map(|_| REFRESH);
        let page = Setup {
            frame,
            ready: setup.ready,
            form: may_enter && setup.running.is_none(),
            running: setup.running,
            failure: failure.or(setup.outcome),
            certificates: setup.certificates.into_iter().map(Into::into).collect(),
            code_required: setup.code_required,
        };
        self.form_page(status, &page)
    }

    pub(crate) async fn start_setup(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        if request.body.len() > LARGEST_FORM {
            return Err(Fault::TooLarge);
        }
        let field = |name| form::field(&request.body, name).map(Entry::new);
        let (Some(number), Some(access_code)) = (field("number"), field("access_code")) else {
            return Err(Fault::BadRequest);
        };
        if let Some(refused) = self.admit(request, field("setup_code")).await? {
            return self.setup_page(request, Some(refused)).await;
        }
        match self.desk.provision(number, access_code).await {
            Ok(()) => see_other("/setup"),
            Err(failure) => self.setup_page(request, Some(failure)).await,
        }
    }

    pub(crate) async fn import_page(
        &self,
        request: &ConsoleRequest,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let setup = self.desk.setup().await;
        if !self.may_enter(&setup, request) {
            return Err(Fault::NotManager);
        }
        let status = failure
            .as_ref()
            .map_or(StatusCode::OK, |_| StatusCode::UNPROCESSABLE_ENTITY);
        let page = Import {
            frame: self
                .frame("証明書ファイルの取り込み", "setup", request)
                .await,
            failure,
            code_required: setup.code_required,
        };
        self.form_page(status, &page)
    }

    pub(crate) async fn start_import(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        if request.body.len() > LARGEST_IMPORT {
            return Err(Fault::TooLarge);
        }
        let content_type = request.headers.get(header::CONTENT_TYPE);
        let boundary = content_type
            .and_then(|value| value.to_str().ok())
            .and_then(form::boundary)
            .ok_or(Fault::BadRequest)?;
        let text = |name| {
            let part = form::part(&request.body, boundary, name)?;
            let text = std::str::from_utf8(&part).ok()?;
            Some(Entry::new(zeroize::Zeroizing::new(text.to_owned())))
        };
        let file = form::part(&request.body, boundary, "file");
        let (Some(file), Some(passphrase)) = (file, text("passphrase")) else {
            return Err(Fault::BadRequest);
        };
        if let Some(refused) = self.admit(request, text("setup_code")).await? {
            return self.import_page(request, Some(refused)).await;
        }
        if file.is_empty() {
            let nothing = Message {
                sentence: "ファイルが選ばれていません。".into(),
                next_step: "市から受け取った証明書ファイル（.p12 または .pfx）を選んでください。"
                    .into(),
                code: "C-NO-FILE".into(),
            };
            return self.import_page(request, Some(nothing)).await;
        }
        match self.desk.import(file, passphrase).await {
            Ok(()) => see_other("/setup"),
            Err(failure) => self.import_page(request, Some(failure)).await,
        }
    }

    /// Until the box is set up, whoever stands before it may enter number and code; afterwards the manager.
    fn may_enter(&self, setup: &SetupStatus, request: &ConsoleRequest) -> bool {
        !setup.ready || self.is_manager(request)
    }

    /// `Some`: why what was typed is not taken.
    async fn admit(
        &self,
        request: &ConsoleRequest,
        setup_code: Option<Entry>,
    ) -> Result<Option<Message>, Fault> {
        let setup = self.desk.setup().await;
        if !self.may_enter(&setup, request) {
            return Err(Fault::NotManager);
        }
        if setup.running.is_some() {
            return Ok(Some(Message {
                sentence: "いま別の手続きが進んでいます。".into(),
                next_step: "終わるまで、この画面でお待ちください。".into(),
                code: "C-BUSY".into(),
            }));
        }
        if !setup.code_required {
            return Ok(None);
        }
        let right = match setup_code {
            Some(code) => self.desk.is_setup_code(code).await,
            None => false,
        };
        Ok((!right).then(|| Message {
            sentence: "装置のセットアップコードが違います。".into(),
            next_step: "装置のラベルに印刷されたコードを、そのまま入力してください。".into(),
            code: "C-SETUP-CODE".into(),
        }))
    }
}
