use gateway_console::{BreakGlass, DeviceKind, MediumState, Message, Pairing};
use gateway_notes::Role;
use gateway_policy::{Check, DeviceId, Effect};
use http::{Method, StatusCode, header};

use crate::desk::{BOX, NOTEBOOK, NOW, get, post, signed_in};
use crate::parts::{
    MANAGERS, PC, REVOKED, approved, opening, troubled_lines, waiting, waits, whole_console,
};

/// Every page and form that is for the manager alone.
const MANAGERS_PAGES: [&str; 19] = [
    "/devices",
    "/devices/days",
    "/devices/certificate",
    "/exceptions",
    "/exceptions/new?device=11111111111111111111111111111111&check=PC-LOCK",
    "/devices/11111111111111111111111111111111",
    "/registers",
    "/media",
    "/media/new",
    "/media/1",
    "/media/review",
    "/media/print",
    "/media/media.csv",
    "/training",
    "/declarations",
    "/declarations/declarations.csv",
    "/report",
    "/recovery-key",
    "/leaving",
];
const MANAGERS_FORMS: [(&str, &str); 20] = [
    ("/devices/pairing", "code=48291537"),
    ("/devices/decision", "pairing=a1b2&decision=approve"),
    ("/devices/11111111111111111111111111111111", "action=revoke"),
    (
        "/devices/11111111111111111111111111111111",
        "action=rename&name=受付のPC",
    ),
    ("/devices/11111111111111111111111111111111", "action=forget"),
    (
        "/exceptions/new",
        "device=11111111111111111111111111111111&check=PC-LOCK&until=2026-12-31&reason=x",
    ),
    (
        "/exceptions/end",
        "device=11111111111111111111111111111111&check=PC-LOCK",
    ),
    (
        "/media/new",
        "kind=USBメモリ&label=a&purpose=b&owner=c&place=d",
    ),
    ("/media/1", "action=lose"),
    (
        "/media/review",
        "listed=1&listed=2&listed=3&found-1=yes&found-2=yes&found-3=no",
    ),
    ("/training", "day=2026-04-10&topic=t&participants=3"),
    ("/declarations", "topic=印刷された用紙の取り扱い&remark="),
    ("/break-glass/pin", "pin=482915&pin_again=482915"),
    ("/break-glass/code", ""),
    ("/recovery-key/show", ""),
    ("/recovery-key/handed-over", ""),
    ("/leaving/start", "reason=disposed&word=消去する"),
    ("/break-glass/review", "opening=1&text=x"),
    ("/break-glass/open", "pin=482915&reason=emergency"),
    ("/break-glass/close", ""),
];

pub(crate) fn encoded(form: &str) -> String {
    let mut encoded = String::new();
    for byte in form.bytes() {
        if byte.is_ascii() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[tokio::test]
async fn what_is_the_managers_is_refused_to_staff_and_to_whoever_is_not_signed_in() {
    let (console, _, parts, _directory) = whole_console().await;
    let staff = signed_in(&console, "sato", Role::Staff, PC).await;
    for cookie in [staff.as_str(), "none=1"] {
        for page in MANAGERS_PAGES {
            let answer = get(BOX, page).device(PC).cookie(cookie).ask(&console).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{page}");
        }
        for (form, body) in MANAGERS_FORMS {
            if form == "/break-glass/close" {
                continue;
            }
            let answer = post(form, encoded(body))
                .device(PC)
                .cookie(cookie)
                .ask(&console)
                .await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{form}");
        }
    }
    assert_eq!(parts.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_forged_form_changes_nothing() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    for (form, body) in MANAGERS_FORMS {
        for forged in [
            post(form, encoded(body)).header("sec-fetch-site", "cross-site"),
            post(form, encoded(body)).header("sec-fetch-site", "same-site"),
            post(form, encoded(body))
                .without("sec-fetch-site")
                .header("origin", "https://evil.example"),
            post(form, encoded(body)).without("sec-fetch-site"),
        ] {
            let answer = forged.device(MANAGERS).cookie(&cookie).ask(&console).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{form}");
        }
    }
    assert_eq!(parts.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_get_changes_nothing() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    for (form, body) in MANAGERS_FORMS {
        for method in [Method::GET, Method::HEAD] {
            let target = format!("{form}?{}", encoded(body));
            get(BOX, &target)
                .method(method)
                .device(MANAGERS)
                .cookie(&cookie)
                .ask(&console)
                .await;
        }
    }
    assert_eq!(parts.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn the_manager_may_do_it_all() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    for page in MANAGERS_PAGES {
        let answer = get(BOX, page)
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await;
        assert_eq!(answer.status(), StatusCode::OK, "{page}");
    }
    for (form, body) in MANAGERS_FORMS {
        let answer = post(form, encoded(body))
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await;
        assert!(answer.status().as_u16() < 400, "{form}: {}", answer.body());
    }
    assert_eq!(
        parts.asked(),
        [
            "approve a1b2 false by kanri",
            "revoke 11111111111111111111111111111111",
            "rename 11111111111111111111111111111111 受付のPC",
            "forget 11111111111111111111111111111111",
            "waive 11111111111111111111111111111111 PC-LOCK 1798729199 x",
            "withdraw 11111111111111111111111111111111 PC-LOCK",
            "enter a by kanri",
            "change 1 Lose",
            "review [1, 2] [3]",
            "train t 3",
            "declare Paper ",
            "pin of 6",
            "code",
            "show recovery key",
            "forget recovery key",
            "leave disposed",
            "review 1 x",
            "open pin emergency user=true device=true",
            "close",
        ]
    );
}

#[tokio::test]
async fn a_device_that_is_not_registered_sees_the_pairing_page_and_what_is_public() {
    let (console, _, parts, _directory) = whole_console().await;
    let manager = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    for device in [None, Some(REVOKED), Some(DeviceId([9; 16]))] {
        let ask = |target: &str| {
            let request = get(BOX, target).cookie(&manager);
            match device {
                Some(device) => request.device(device),
                None => request,
            }
        };
        let home = ask("/").ask(&console).await;
        assert_eq!(home.header(header::LOCATION), "/pairing");
        let pairing = ask("/pairing").ask(&console).await;
        assert_eq!(pairing.status(), StatusCode::OK);
        pairing.shows("端末の種類").hides("href=\"/notes\"");
        let notices = ask("/notices").ask(&console).await;
        // Even with a manager's cookie in its hands.
        notices.shows("年末年始").hides("研修会（12月4日）");
        for closed in [
            "/notes",
            "/notes/p-1",
            "/devices",
            "/media",
            "/report",
            "/break-glass",
            "/setup",
            "/certificates",
        ] {
            let page = ask(closed).ask(&console).await;
            assert_eq!(page.status(), StatusCode::FORBIDDEN, "{closed}");
            page.shows("登録されていません").hides("山田");
        }
        for (form, body) in MANAGERS_FORMS {
            let request = post(form, encoded(body)).cookie(&manager);
            let request = match device {
                Some(device) => request.device(device),
                None => request,
            };
            assert_eq!(request.ask(&console).await.status(), StatusCode::FORBIDDEN);
        }
        // From the notebook it is led to the pairing page instead of being handed over.
        let door = get(NOTEBOOK, "/.well-known/renraku-gateway/notes").staff("sato", Role::Staff);
        let door = match device {
            Some(device) => door.device(device),
            None => door,
        };
        let led = door.ask(&console).await;
        assert_eq!(
            led.header(header::LOCATION),
            "https://box.takahagi.localhost:8443/pairing"
        );
    }
    assert_eq!(parts.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_device_goes_through_pairing_with_its_ticket() {
    let (console, _, parts, _directory) = whole_console().await;
    let started = post("/pairing", encoded("name=訪問用A&kind=Windowsパソコン"))
        .ask(&console)
        .await;
    assert_eq!(started.header(header::LOCATION), "/pairing");
    let cookie = started.header(header::SET_COOKIE);
    assert!(cookie.starts_with("__Host-pairing=ticket; Path=/; Secure; HttpOnly"));
    assert_eq!(parts.asked(), ["pair 訪問用A Windows"]);

    parts.arrange(|arranged| arranged.pairing = waits);
    let ticket = "__Host-pairing=ticket";
    let page = get(BOX, "/pairing").cookie(ticket).ask(&console).await;
    page.shows("4829 1537").shows("http-equiv=\"refresh\"");
    // Somebody else's browser is not shown it.
    get(BOX, "/pairing").ask(&console).await.hides("4829");

    for (kind, words) in [
        (DeviceKind::Windows, "現在のユーザー"),
        (DeviceKind::Ipad, "VPNとデバイス管理"),
        (DeviceKind::Chromebook, "インポートしてバインド"),
        (DeviceKind::Android, "証明書のインストール"),
        (DeviceKind::Mac, "キーチェーンアクセス"),
        (DeviceKind::Linux, "あなたの証明書"),
    ] {
        parts.arrange(|arranged| {
            arranged.pairing = match kind {
                DeviceKind::Windows => || approved(DeviceKind::Windows),
                DeviceKind::Ipad => || approved(DeviceKind::Ipad),
                DeviceKind::Chromebook => || approved(DeviceKind::Chromebook),
                DeviceKind::Android => || approved(DeviceKind::Android),
                DeviceKind::Mac => || approved(DeviceKind::Mac),
                DeviceKind::Linux => || approved(DeviceKind::Linux),
            };
        });
        let page = get(BOX, "/pairing").cookie(ticket).ask(&console).await;
        page.shows(words)
            .shows("7KQM-2RXT-9WPA")
            .hides("http-equiv=\"refresh\"");
    }
    let file = get(BOX, "/pairing/certificate")
        .cookie(ticket)
        .ask(&console)
        .await;
    assert_eq!(
        file.header(header::CONTENT_DISPOSITION),
        "attachment; filename=\"renraku-device.p12\""
    );
    assert_eq!(file.header(header::CACHE_CONTROL), "no-store");
    parts.arrange(|arranged| arranged.pairing = || Pairing::Refused);
    let page = get(BOX, "/pairing").cookie(ticket).ask(&console).await;
    page.shows("承認しませんでした").shows("端末の種類");
}

#[tokio::test]
async fn the_home_page_names_what_weighs_most_with_its_deadline_and_leads_there() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let home = async || {
        get(BOX, "/")
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await
    };
    home()
        .await
        .shows("連絡帳をいつもどおり利用できます")
        .shows("第28条")
        .shows("登録した端末（2台）だけが連絡帳につながります");

    parts.arrange(|arranged| arranged.lines = troubled_lines());
    let page = home().await;
    // What will restrict somebody comes before what only warns.
    page.shows("事務室ノートPC 1：ウイルス対策ソフトの定義が古くなっています（規約第27条）。")
        .shows("あと2日")
        .shows("href=\"/devices/11111111111111111111111111111111\"")
        .shows("根拠 エージェント");

    parts.arrange(|arranged| arranged.waiting = vec![waiting()]);
    home().await.shows("登録を待っている端末が1台あります");
    parts.arrange(|arranged| {
        arranged.waiting.clear();
        arranged.break_glass.past = vec![opening(1, NOW.plus(-86_400))];
    });
    home().await.shows("振り返りが、まだ記録されていません");
}

#[tokio::test]
async fn staff_are_not_troubled_with_what_only_the_city_can_put_right() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "sato", Role::Staff, PC).await;
    let home = async || get(BOX, "/").device(PC).cookie(&cookie).ask(&console).await;
    parts.arrange(|arranged| {
        arranged.lines = troubled_lines();
        arranged.lines.retain(|line| line.check == Check::AvDb);
    });
    home()
        .await
        .shows("連絡帳をいつもどおり利用できます")
        .hides("根拠");
    parts.arrange(|arranged| {
        for line in &mut arranged.lines {
            line.effect = Effect::Restrict;
        }
    });
    home().await.shows("ウイルス定義が古くなっています");
    parts.arrange(|arranged| arranged.lines = troubled_lines());
    home().await.shows("事業所管理者に見せてください");
}

#[tokio::test]
async fn a_wrong_code_is_told_and_a_right_one_shows_whose_it_is_before_anything_happens() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let send = async |form: &str, body: &str| {
        let request = post(form, encoded(body)).device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    let wrong = send("/devices/pairing", "code=00000000").await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    wrong.shows("この番号で待っている端末はありません");
    let found = send("/devices/pairing", "code=48291537").await;
    found.shows("訪問用タブレット A").shows("iPad");
    assert_eq!(parts.asked(), Vec::<String>::new());
    let done = send(
        "/devices/decision",
        "pairing=a1b2&decision=approve&manager=yes",
    )
    .await;
    assert_eq!(done.header(header::LOCATION), "/devices");
    send("/devices/decision", "pairing=a1b2&decision=refuse").await;
    assert_eq!(parts.asked(), ["approve a1b2 true by kanri", "refuse a1b2"]);
    assert_eq!(
        send("/devices/decision", "pairing=a1b2").await.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn what_was_typed_is_still_there_after_a_refusal() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    parts.arrange(|arranged| {
        arranged.answer = Err(Message {
            sentence: "同じ名前の媒体が、すでに登録されています。".into(),
            next_step: "別の名前にしてください。".into(),
            code: "R-LABEL".into(),
        });
    });
    let body = encoded("kind=CD・DVD&label=A<b>\"&purpose=x&owner=佐藤&place=棚");
    let page = post("/media/new", body)
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    page.shows("すでに登録されています")
        .shows("value=\"佐藤\"")
        .shows("value=\"A&#60;b&#62;&#34;\"")
        .shows("value=\"CD・DVD\" required checked");
}

#[tokio::test]
async fn a_medium_offers_what_can_happen_to_it_and_nothing_else() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = async |number: u64| {
        let target = format!("/media/{number}");
        get(BOX, &target)
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await
    };
    page(1)
        .await
        .shows("貸し出す")
        .shows("廃棄する")
        .hides("返却を記録");
    page(2)
        .await
        .shows("返却遅れ")
        .shows("返却を記録")
        .hides("廃棄を記録");
    page(3)
        .await
        .shows("見つかった")
        .shows("紛失として除却")
        .hides("貸し出す");
    parts.arrange(|arranged| {
        arranged.media[0].state = MediumState::WrittenOff {
            report: "市に電話".into(),
        };
    });
    page(1)
        .await
        .hides("<button type=\"submit\" name=\"action\"");
    assert_eq!(page(99).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn while_break_glass_is_open_every_page_says_so() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    parts.arrange(|arranged| {
        arranged.break_glass.open = Some(opening(1, NOW.plus(-60)));
    });
    for page in [
        "/",
        "/notes",
        "/media",
        "/report",
        "/break-glass",
        "/notices",
        "/missing",
    ] {
        let page = get(BOX, page)
            .device(MANAGERS)
            .cookie(&cookie)
            .ask(&console)
            .await;
        page.shows("非常時の解除中");
    }
}

#[tokio::test]
async fn the_pin_counts_from_the_managers_device_and_the_code_from_any_that_is_registered() {
    let (console, _, parts, _directory) = whole_console().await;
    parts.arrange(|arranged| arranged.break_glass.would_help = true);
    let open = async |device: Option<DeviceId>, body: &str| {
        let request = post("/break-glass/open", body.to_owned());
        let request = match device {
            Some(device) => request.device(device),
            None => request,
        };
        request.ask(&console).await.status()
    };
    // Nobody is signed in: the city cannot be reached, and the session has ended.
    let (pin, code) = ("pin=482915&reason=transfer", "code=2345&reason=disaster");
    assert_eq!(open(Some(PC), pin).await, StatusCode::FORBIDDEN);
    assert_eq!(open(None, pin).await, StatusCode::FORBIDDEN);
    assert_eq!(open(None, code).await, StatusCode::FORBIDDEN);
    assert_eq!(open(Some(MANAGERS), pin).await, StatusCode::SEE_OTHER);
    assert_eq!(open(Some(PC), code).await, StatusCode::SEE_OTHER);
    for unclear in ["reason=transfer", "pin=1&code=2&reason=transfer"] {
        assert_eq!(open(Some(MANAGERS), unclear).await, StatusCode::BAD_REQUEST);
    }
    let no_reason = open(Some(MANAGERS), "pin=482915&reason=because").await;
    assert_eq!(no_reason, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        parts.asked(),
        [
            "open pin transfer user=false device=true",
            "open code disaster user=false device=true",
        ]
    );
    // Where devices need not be registered, a PIN alone opens nothing.
    parts.arrange(|arranged| arranged.strict = false);
    assert_eq!(open(None, pin).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_break_glass_asks_for_follows_from_how_it_stands() {
    let (console, _, parts, _directory) = whole_console().await;
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = async || {
        let request = get(BOX, "/break-glass").device(MANAGERS).cookie(&cookie);
        request.ask(&console).await
    };
    let arrange = |change: fn(&mut BreakGlass)| {
        parts.arrange(|arranged| {
            arranged.break_glass = BreakGlass {
                pin_set: true,
                sealed_code: Some(NOW),
                online: true,
                would_help: true,
                uses_left: 3,
                ..BreakGlass::default()
            };
            change(&mut arranged.break_glass);
        });
    };
    arrange(|_| ());
    page()
        .await
        .shows("id=\"pin\"")
        .shows("見つかったウイルスの遮断")
        .shows("暗証番号を変える");
    arrange(|state| state.would_help = false);
    page()
        .await
        .shows("ゆるめられる停止はありません")
        .hides("id=\"pin\"");
    arrange(|state| state.uses_left = 0);
    page().await.shows("使い切りました").hides("id=\"pin\"");
    arrange(|state| state.locked_until = Some(NOW.plus(600)));
    page().await.shows("入力できません").hides("id=\"pin\"");
    arrange(|state| state.online = false);
    page()
        .await
        .shows("市につながっている間だけ")
        .hides("id=\"new-pin\"");
    arrange(|state| state.open = Some(opening(4, NOW)));
    page()
        .await
        .shows("延長する")
        .shows("もう必要ないので終了する");
    arrange(|state| state.past = vec![opening(3, NOW.plus(-86_400))]);
    page().await.shows("name=\"opening\" value=\"3\"");
    let twice = post("/break-glass/pin", "pin=482915&pin_again=482916")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    twice.shows("一致しません").hides("482915");
}

#[tokio::test]
async fn the_report_says_of_every_article_how_it_stands_and_by_whose_word() {
    let (console, _, parts, _directory) = whole_console().await;
    parts.arrange(|arranged| arranged.lines = troubled_lines());
    let cookie = signed_in(&console, "kanri", Role::Manager, MANAGERS).await;
    let page = get(BOX, "/report")
        .device(MANAGERS)
        .cookie(&cookie)
        .ask(&console)
        .await;
    for words in [
        "第23条",
        "第25条",
        "第26条",
        "第27条",
        "第28条",
        "第29条",
        "PASS",
        "WARN",
        "UNKNOWN",
        "測定",
        "エージェント",
        "スクリプト",
        "申告",
        "訪問看護ステーションさくら",
    ] {
        page.shows(words);
    }
}
