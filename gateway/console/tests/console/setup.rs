use bytes::Bytes;
use gateway_console::{Message, Provenance};
use gateway_notes::Role;
use http::{StatusCode, header};

use crate::desk::{BOX, certificate, console, console_with_notes, get, post, signed_in};

const FORM: &str = "number=%EF%BC%91%EF%BC%92%EF%BC%93-456&access_code=ab+cd%2B";

fn message() -> Message {
    Message {
        sentence: "番号またはアクセスコードが違います。".into(),
        next_step: "書類を見ながら、もう一度入力してください。".into(),
        code: "P-WRONG".into(),
    }
}

fn multipart(file: &[u8], passphrase: &str) -> Bytes {
    let mut body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"passphrase\"\r\n\r\n{passphrase}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.p12\"\r\n\r\n"
    )
    .into_bytes();
    body.extend(file);
    body.extend(b"\r\n--b--\r\n");
    body.into()
}

fn upload(file: &[u8]) -> crate::desk::Request {
    post("/setup/import", multipart(file, "秘密"))
        .header("content-type", "multipart/form-data; boundary=b")
}

#[tokio::test]
async fn what_is_typed_reaches_the_desk_as_typed_and_no_page() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.setup.ready = false);
    get(BOX, "/setup")
        .ask(&console)
        .await
        .shows("電子証明書取得用番号")
        .shows("アクセスコード");
    let page = post("/setup", FORM).ask(&console).await;
    assert_eq!(
        (page.status(), page.header(header::LOCATION)),
        (StatusCode::SEE_OTHER, "/setup")
    );
    let entered = desk.0.lock().unwrap().entered.clone();
    assert_eq!(entered, [("１２３-456".to_owned(), "ab cd+".to_owned())]);
}

#[tokio::test]
async fn a_refused_entry_says_what_happened_and_the_next_step_and_repeats_no_secret() {
    let (console, desk) = console();
    desk.arrange(|arranged| {
        arranged.setup.ready = false;
        arranged.answer = Err(message());
    });
    let page = post("/setup", FORM).ask(&console).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    page.shows("番号またはアクセスコードが違います。")
        .shows("もう一度入力してください。")
        .shows("P-WRONG")
        .shows("role=\"alert\"")
        .hides("ab cd")
        .hides("１２３");
}

#[tokio::test]
async fn while_it_runs_the_page_reloads_itself_and_takes_nothing() {
    let (console, desk) = console();
    desk.arrange(|arranged| {
        arranged.setup.ready = false;
        arranged.setup.running = Some("市に申請しています。".into());
    });
    get(BOX, "/setup")
        .ask(&console)
        .await
        .shows("市に申請しています。")
        .shows("http-equiv=\"refresh\" content=\"2\"")
        .hides("name=\"access_code\"");
    post("/setup", FORM).ask(&console).await.hides("ab cd");
    assert!(desk.0.lock().unwrap().entered.is_empty());
}

#[tokio::test]
async fn the_last_failure_stays_until_the_next_attempt() {
    let (console, desk) = console();
    desk.arrange(|arranged| {
        arranged.setup.ready = false;
        arranged.setup.outcome = Some(message());
    });
    let page = get(BOX, "/setup").ask(&console).await;
    assert_eq!(page.status(), StatusCode::OK);
    page.shows("P-WRONG").shows("name=\"access_code\"");
}

#[tokio::test]
async fn a_ready_box_says_whose_certificate_it_has_and_where_its_key_was_made() {
    let (console, desk) = console();
    get(BOX, "/setup")
        .ask(&console)
        .await
        .shows("準備完了")
        .shows("訪問看護ステーションさくら")
        .shows("2027年10月25日 まで")
        .shows("TPM内で生成")
        .shows("CAファイル")
        .hides("取り込み<br>")
        .hides("name=\"access_code\"");
    desk.arrange(|arranged| arranged.setup.certificates = vec![certificate(Provenance::Imported)]);
    for path in ["/setup", "/certificates"] {
        get(BOX, path)
            .ask(&console)
            .await
            .shows("取り込み<br>")
            .hides("TPM内で生成");
    }
}

#[tokio::test]
async fn on_a_ready_box_only_the_manager_adds_a_certificate() {
    let (console, desk, _directory) = console_with_notes().await;
    for page in [
        post("/setup", FORM).ask(&console).await,
        upload(b"x").ask(&console).await,
    ] {
        assert_eq!(page.status(), StatusCode::FORBIDDEN);
        page.shows("事業所管理者だけ");
    }
    let staff = signed_in(&console, "sato", Role::Staff, None).await;
    let page = post("/setup", FORM).cookie(&staff).ask(&console).await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    assert!(desk.0.lock().unwrap().entered.is_empty());

    let manager = signed_in(&console, "kanri", Role::Manager, None).await;
    get(BOX, "/setup")
        .cookie(&manager)
        .ask(&console)
        .await
        .shows("電子証明書を追加する");
    let page = post("/setup", FORM).cookie(&manager).ask(&console).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    assert_eq!(desk.0.lock().unwrap().entered.len(), 1);
}

#[tokio::test]
async fn a_box_with_a_set_up_code_wants_it_first() {
    let (console, desk) = console();
    desk.arrange(|arranged| {
        arranged.setup.ready = false;
        arranged.setup.code_required = true;
        arranged.setup_code = Some("K7Q2-M9".into());
    });
    for path in ["/setup", "/setup/import"] {
        get(BOX, path)
            .ask(&console)
            .await
            .shows("装置のセットアップコード");
    }
    for form in [FORM.to_owned(), format!("{FORM}&setup_code=K7Q2-M8")] {
        let page = post("/setup", form).ask(&console).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        page.shows("セットアップコードが違います");
    }
    upload(b"x")
        .ask(&console)
        .await
        .shows("セットアップコードが違います");
    assert!(desk.0.lock().unwrap().entered.is_empty());
    let page = post("/setup", format!("{FORM}&setup_code=K7Q2-M9"))
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_file_is_imported_byte_for_byte() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.setup.ready = false);
    get(BOX, "/setup/import")
        .ask(&console)
        .await
        .shows("multipart/form-data")
        .shows("ファイルのパスワード");
    let file = [b"\x30\x82\r\n--c\r\n\x00\xff".as_slice(), &[7; 2000]].concat();
    let page = upload(&file).ask(&console).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    assert_eq!(
        desk.0.lock().unwrap().imported,
        [(Bytes::from(file), "秘密".to_owned())]
    );
}

#[tokio::test]
async fn an_import_without_a_file_or_with_a_wrong_one_says_so() {
    let (console, desk) = console();
    desk.arrange(|arranged| {
        arranged.setup.ready = false;
        arranged.answer = Err(message());
    });
    let page = upload(b"").ask(&console).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    page.shows("ファイルが選ばれていません");
    let page = upload(b"not pkcs#12").ask(&console).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    page.shows("P-WRONG").hides("秘密");
}

#[tokio::test]
async fn forms_that_cannot_be_read_or_are_too_large_are_refused() {
    let (console, desk) = console();
    desk.arrange(|arranged| arranged.setup.ready = false);
    for body in [
        "",
        "number=1",
        "access_code=1",
        "number=%zz&access_code=1",
        "number=%ff&access_code=1",
    ] {
        let page = post("/setup", body.to_owned()).ask(&console).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST, "{body}");
        page.shows("読み取れませんでした").shows("受付番号");
    }
    let large = format!("number={}&access_code=1", "1".repeat(5000));
    let page = post("/setup", large).ask(&console).await;
    assert_eq!(page.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let page = post("/setup/import", multipart(b"x", "y"))
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::BAD_REQUEST);
    let page = upload(&vec![0; 300_000]).ask(&console).await;
    assert_eq!(page.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(desk.0.lock().unwrap().entered.is_empty());
}
