//! What a person or a program reads when the box answers instead of the city. Does not decide anything.

use std::fmt::Write as _;

use bytes::Bytes;
use gateway_policy::calendar::{Date, Weekday};
use gateway_policy::{Effect, Rule, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    body::Reply,
    config::{RESERVED_PREFIX, Support},
    error::{Failure, Fault, FaultKind},
    headers::PSEUDONYM,
    inspect::{Why, words as content},
    record::SupportCode,
    refusals,
};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// One failure in words: what happened, and the one next step.
struct Words {
    problem: &'static str,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
    /// The city cannot be reached, so the box's stored notes are what is left.
    notes: bool,
    /// When it gets worse unless somebody acts.
    deadline: Option<Timestamp>,
    /// Where on the box's own pages the next action is done.
    place: Option<(&'static str, &'static str)>,
}

const fn words(
    problem: &'static str,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
) -> Words {
    Words {
        problem,
        title,
        happened,
        next,
        notes: false,
        deadline: None,
        place: None,
    }
}

const fn outage(
    problem: &'static str,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
) -> Words {
    Words {
        problem,
        title,
        happened,
        next,
        notes: true,
        deadline: None,
        place: None,
    }
}

impl Words {
    const fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Upstream(fault) => Self::upstream(fault),
            Failure::Refused(refusal) => {
                let (happened, next) = refusals::words(refusal);
                let place = Some(refusals::place(refusal));
                match refusal.effect {
                    Effect::Restrict => Self {
                        deadline: refusal.deadline,
                        place,
                        ..words(
                            "restricted",
                            "ファイルの送受信を止めています",
                            happened,
                            next,
                        )
                    },
                    // A device that is not the facility's is shown no notes.
                    _ if matches!(refusal.rule, Rule::Device) => Self {
                        place,
                        ..words("refused", "この端末は登録されていません", happened, next)
                    },
                    _ if matches!(refusal.rule, Rule::DeviceRevoked) => Self {
                        place,
                        ..words(
                            "refused",
                            "この端末の利用は止められています",
                            happened,
                            next,
                        )
                    },
                    _ => Self {
                        place,
                        ..outage("refused", "連絡帳への接続を止めています", happened, next)
                    },
                }
            }
            Failure::Content(stopped) => {
                let (problem, title, happened, next) = content::of(stopped);
                words(problem, title, happened, next)
            }
            Failure::Misdirected => words(
                "misdirected",
                "このアドレスはここにはありません",
                "指定されたアドレスは、このゲートウェイが中継するものではありません。",
                "アドレスを確かめ、いつものブックマークから開き直してください。",
            ),
            Failure::NotRelayed => words(
                "not-relayed",
                "この接続先は中継できません",
                "このゲートウェイは連絡帳のサイトだけを中継します。ほかのサイトへの接続は受け付けません。",
                "プロキシの設定を「自動構成（PAC）」にしてください。ほかのサイトは直接つながります。",
            ),
            Failure::Method | Failure::Upgrade => words(
                "method",
                "この操作は受け付けられません",
                "ブラウザーまたはアプリから、ゲートウェイが扱わない種類の要求が届きました。",
                "ページを開き直してください。",
            ),
            Failure::Malformed(_) | Failure::Gone => words(
                "malformed",
                "要求を読み取れませんでした",
                "ブラウザーまたはアプリから届いた要求の形式が正しくありません。",
                "ページを開き直してください。",
            ),
            Failure::UriTooLong => words(
                "uri-too-long",
                "アドレスが長すぎます",
                "要求されたアドレスが長すぎるため、受け付けられません。",
                "いつものブックマークから開き直してください。",
            ),
            Failure::HeaderTooLarge => words(
                "header-too-large",
                "要求が大きすぎます",
                "ブラウザーから届いた付帯情報（Cookieなど）が大きすぎます。",
                "ブラウザーのCookieを消して、もう一度ログインしてください。",
            ),
            Failure::BodyTooLarge => words(
                "body-too-large",
                "送信するデータが大きすぎます",
                "送信できる大きさを超えています。何も保存されていません。",
                "ファイルを小さくするか、分けて送ってください。",
            ),
            Failure::TooSlow => words(
                "too-slow",
                "送信が途中で止まりました",
                "データの送信が途中で止まったため、受け付けを打ち切りました。何も保存されていません。",
                "通信状態の良い場所で、もう一度送ってください。",
            ),
        }
    }

    const fn upstream(fault: &Fault) -> Self {
        match fault.kind {
            FaultKind::NameUnknown
            | FaultKind::NameTimeout
            | FaultKind::Unreachable
            | FaultKind::Refused
            | FaultKind::ConnectTimeout
            | FaultKind::HandshakeTimeout
            | FaultKind::BreakerOpen => outage(
                "unreachable",
                "連絡帳につながりません",
                "市のシステムまでの通信ができません。回線、または市のシステムの障害です。入力した内容は保存されていません。",
                "しばらく待ってから、もう一度開いてください。",
            ),
            FaultKind::FirstByteTimeout => outage(
                "timeout",
                "連絡帳の応答がありません",
                "市のシステムが時間内に応答しませんでした。入力した内容が保存されたかどうかは分かりません。",
                "しばらく待ってから開き直し、保存されているか確かめてください。",
            ),
            FaultKind::Closed | FaultKind::Protocol | FaultKind::Tls => outage(
                "broken",
                "連絡帳との通信が途切れました",
                "市のシステムとの通信が途中で途切れました。入力した内容が保存されたかどうかは分かりません。",
                "開き直して、保存されているか確かめてください。",
            ),
            FaultKind::WrongAuthority => words(
                "wrong-authority",
                "接続先を確認できません",
                "接続先の証明書が、市のものと確認できませんでした。安全のため接続していません。",
                "事業所管理者に伝えてください。管理者は市の窓口に問い合わせてください。",
            ),
            FaultKind::CertificateRefused => outage(
                "certificate-refused",
                "事業所の電子証明書が受け付けられません",
                "市が、この事業所の電子証明書を受け付けませんでした。失効したか、期限が切れた可能性があります。",
                "事業所管理者に伝えてください。管理者は市の窓口に問い合わせてください。",
            ),
            FaultKind::KeyUnavailable => outage(
                "key-unavailable",
                "電子証明書の鍵が使えません",
                "ゲートウェイの安全チップ（TPM）が、電子証明書の鍵を使えない状態です。",
                "事業所管理者に伝えてください。管理者はゲートウェイの管理ページを開いてください。",
            ),
            FaultKind::Busy => words(
                "busy",
                "混み合っています",
                "連絡帳への接続が混み合っています。入力した内容は保存されていません。",
                "少し待ってから、もう一度操作してください。",
            ),
            FaultKind::Loop => words(
                "loop",
                "接続先の設定に誤りがあります",
                "要求がゲートウェイ自身に戻ってきました。",
                "事業所管理者に伝えてください。管理者は市の窓口に問い合わせてください。",
            ),
            FaultKind::Stopping => words(
                "stopping",
                "ゲートウェイを再起動しています",
                "ゲートウェイが再起動中です。",
                "一分ほど待ってから、もう一度開いてください。",
            ),
        }
    }
}

/// The answer to a request that failed.
pub(crate) fn failure(
    failure: &Failure,
    request: &Wants,
    code: SupportCode,
    (support, phone): (&Support, Option<&str>),
) -> Response<Reply> {
    let words = Words::of(failure);
    let status = failure.status();
    let (media_type, body) = if request.html {
        (HTML, page(&words, code, support, phone))
    } else {
        (PROBLEM, problem(&words, status, code))
    };
    let mut response = Response::new(Reply::whole(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    if let Some(value) = proxy_status(failure) {
        headers.insert(PROXY_STATUS, value);
    }
    match failure {
        Failure::Upstream(fault) if status == StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = if matches!(fault.kind, FaultKind::Busy) {
                2
            } else {
                10
            };
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        Failure::Content(stopped) => match stopped.why {
            Why::Unavailable(_) | Why::NoRoom => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(10));
            }
            // What is left of the body is not worth reading.
            Why::TooLarge if status == StatusCode::PAYLOAD_TOO_LARGE && !request.http2 => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        },
        Failure::Method => {
            headers.insert(header::ALLOW, METHODS);
        }
        // What is left of the body is not worth reading.
        Failure::TooSlow | Failure::BodyTooLarge | Failure::Malformed(_) if !request.http2 => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// The answer to an OPTIONS request that was meant for the box.
pub(crate) fn options() -> Response<Reply> {
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, METHODS);
    response
}

/// How far a download is that somebody waits for. The response still has to be told when to ask again.
pub(crate) fn progress(path: &str, arrived: u64, total: Option<u64>) -> Response<Reply> {
    let far = match total {
        _ if arrived == 0 => "受信を待っています。".to_owned(),
        Some(total) if arrived >= total => format!("{} を受信し、検査中です。", size(total)),
        Some(total) => format!("{} のうち {} を受信しました。", size(total), size(arrived)),
        None => format!("{} を受信し、検査中です。", size(arrived)),
    };
    let text = document(
        "ウイルス検査中",
        &format!(
            "<p>ファイルを受け取り、ウイルスを検査しています（利用規約第27条）。</p>\n<p role=\"status\">{far}</p>\n\
             <h2>次にすること</h2>\n<p>このままお待ちください。検査が終わると、自動でダウンロードが始まります。</p>\n\
             <p><a href=\"{path}\">すぐに確かめる</a></p>\n"
        ),
    );
    own_page(StatusCode::OK, text)
}

/// A download that is not there, or not for the one who asks.
pub(crate) fn gone() -> Response<Reply> {
    let text = document(
        "このダウンロードはもうありません",
        "<p>検査を終えたファイルは、数分だけここで受け取れます。</p>\n<h2>次にすること</h2>\n\
         <p>連絡帳から、もう一度ダウンロードしてください。</p>\n",
    );
    own_page(StatusCode::NOT_FOUND, text)
}

fn own_page(status: StatusCode, text: String) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HTML);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// A number of bytes as people read it.
fn size(bytes: u64) -> String {
    const MEGA: u64 = 1024 * 1024;
    if bytes < MEGA {
        format!("{} KB", bytes.div_ceil(1024))
    } else {
        format!("{}.{} MB", bytes / MEGA, bytes % MEGA * 10 / MEGA)
    }
}

/// What the client can read, remembered before its request is used up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wants {
    pub(crate) html: bool,
    pub(crate) http2: bool,
}

impl Wants {
    pub(crate) fn of(headers: &HeaderMap, version: http::Version) -> Self {
        let html = headers.get_all(header::ACCEPT).iter().any(|value| {
            value
                .as_bytes()
                .windows(9)
                .any(|window| window.eq_ignore_ascii_case(b"text/html"))
        });
        Self {
            html,
            http2: version == http::Version::HTTP_2,
        }
    }
}

/// RFC 9209. The details are fixed words: nothing of the request or the network comes to light.
fn proxy_status(failure: &Failure) -> Option<HeaderValue> {
    let (error, details) = match failure {
        Failure::Upstream(fault) => (fault.kind.token(), Words::of(failure).problem),
        Failure::Refused(refusal) => ("http_request_denied", refusal.rule.id()),
        Failure::Content(stopped) => (stopped.proxy_error(), Words::of(failure).problem),
        Failure::NotRelayed => ("http_request_denied", "not-relayed"),
        _ => return None,
    };
    let error = sfv::TokenRef::from_str(error).ok()?;
    let details = sfv::StringRef::from_str(details).ok()?;
    let mut list = sfv::ListSerializer::new();
    let _ = list
        .bare_item(sfv::TokenRef::from_str(PSEUDONYM).ok()?)
        .parameter(sfv::KeyRef::constant("error"), error)
        .parameter(sfv::KeyRef::constant("details"), details);
    HeaderValue::try_from(list.finish()?).ok()
}

fn problem(words: &Words, status: StatusCode, code: SupportCode) -> String {
    let mut document = serde_json::json!({
        "type": format!("urn:renraku:problem:{}", words.problem),
        "title": words.title,
        "status": status.as_u16(),
        "detail": format!("{}{}", words.happened, words.next),
        "support_code": code.as_str(),
    });
    if let Some(deadline) = words.deadline {
        document["deadline"] = deadline.0.into();
    }
    document.to_string()
}

fn page(words: &Words, code: SupportCode, support: &Support, phone: Option<&str>) -> String {
    let Words {
        title,
        happened,
        next,
        ..
    } = words;
    let mut body = format!("<p>{happened}</p>\n<h2>次にすること</h2>\n<p>{next}</p>\n");
    if let Some(deadline) = words.deadline {
        let _ = writeln!(
            body,
            "<p>このままでは、<b>{}</b>から連絡帳への接続も止まります。</p>",
            minute(deadline)
        );
    }
    if let Some((place, label)) = words.place {
        let _ = writeln!(
            body,
            "<p><a href=\"{RESERVED_PREFIX}{place}\">{label}</a></p>"
        );
    }
    if words.notes {
        let _ = writeln!(
            body,
            "<p><a href=\"{RESERVED_PREFIX}notes\">ゲートウェイに保存された最近の記録を読む（参照のみ）</a></p>"
        );
    }
    let _ = writeln!(
        body,
        "<p class=\"code\">サポートコード <b>{}</b></p>",
        code.as_str()
    );
    let phone = phone.unwrap_or(&support.phone);
    if !phone.is_empty() {
        let _ = writeln!(
            body,
            "<p>問い合わせ先 {} <b>{}</b><br>平日9:00〜17:00（祝日と12月29日〜1月3日を除く）</p>",
            escaped(&support.office),
            escaped(phone)
        );
    }
    document(title, &body)
}

/// 11月24日（火）9:05, in Japan.
fn minute(at: Timestamp) -> String {
    let date = Date::in_japan(at);
    let minutes = date.midnight_in_japan().age(at) / 60;
    let weekday = match date.weekday() {
        Weekday::Sunday => "日",
        Weekday::Monday => "月",
        Weekday::Tuesday => "火",
        Weekday::Wednesday => "水",
        Weekday::Thursday => "木",
        Weekday::Friday => "金",
        Weekday::Saturday => "土",
    };
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!(
        "{}月{}日（{weekday}）{hour}:{minute:02}",
        date.month, date.day
    )
}

/// Configured text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A whole page around its middle.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"ja\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\
         <p class=\"small\">このページは市のシステムではなく、事業所のゲートウェイが表示しています。</p>\n\
         </main>\n</body>\n</html>\n"
    )
}

const STYLE: &str = "body{margin:0;background:#f4f6f8;color:#1c2733;font:16px/1.8 system-ui,'Noto Sans CJK JP','Noto Sans JP',sans-serif}\
main{max-width:38rem;margin:8vh auto;padding:2rem;background:#fff;border-top:.4rem solid #b35c00;border-radius:.4rem}\
h1{font-size:1.5rem;line-height:1.4;margin:0 0 1rem}h2{font-size:1rem;margin:1.5rem 0 0}p{margin:.4rem 0}\
a{color:#00508c}.code{margin-top:2rem}.code b{font:600 1.2rem ui-monospace,monospace;letter-spacing:.1em}\
.small{font-size:.85rem;color:#51606e}\
@media(prefers-color-scheme:dark){body{background:#12181f;color:#e7edf3}main{background:#1b242e}a{color:#8cc4ff}.small{color:#a9b6c2}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_status_is_a_structured_field_with_the_registered_error() {
        let failure = Failure::Upstream(Fault::new(FaultKind::Refused));
        assert_eq!(
            proxy_status(&failure).unwrap(),
            "renraku-gateway;error=connection_refused;details=\"unreachable\""
        );
    }

    #[test]
    fn a_refused_person_reads_what_to_do_until_when_and_whom_to_call() {
        use gateway_policy::{Check, Refusal, Rule};

        let rule = Rule::Check(Check::PcAv);
        let refusal = Refusal {
            rule,
            article: rule.article(),
            effect: Effect::Restrict,
            since: Timestamp(1_795_476_300),
            deadline: Some(Timestamp(1_795_476_300)),
        };
        let support = Support {
            office: "<高萩市>".into(),
            phone: "0293-00-0000".into(),
        };
        let words = Words::of(&Failure::Refused(refusal));
        let text = page(&words, SupportCode::new(), &support, None);
        for said in [
            "このパソコンのウイルス対策が働いていない（利用規約第27条）",
            "「ウイルスと脅威の防止」",
            "11月24日（火）8:25",
            "&lt;高萩市&gt; <b>0293-00-0000</b>",
            "平日9:00〜17:00",
        ] {
            assert!(text.contains(said), "{said}");
        }
        let named = page(&words, SupportCode::new(), &support, Some("0120-1"));
        assert!(named.contains("<b>0120-1</b>") && !named.contains("0293"));
        let problem = problem(&words, StatusCode::FORBIDDEN, SupportCode::new());
        assert!(problem.contains("\"deadline\":1795476300"), "{problem}");
    }

    #[test]
    fn a_refusal_leads_to_where_the_next_action_is_done() {
        let said = |rule, effect| {
            let refusal = gateway_policy::Refusal {
                rule,
                article: None,
                effect,
                since: Timestamp(0),
                deadline: None,
            };
            let words = Words::of(&Failure::Refused(refusal));
            page(&words, SupportCode::new(), &Support::default(), None)
        };
        let path = |place: &str| format!("href=\"/.well-known/renraku-gateway/{place}\"");
        let unknown = said(Rule::Device, Effect::Block);
        assert!(unknown.contains(&path("pairing")) && !unknown.contains(&path("notes")));
        let scanner = Rule::Check(gateway_policy::Check::AvAlive);
        let stopped = said(scanner, Effect::Block);
        assert!(stopped.contains(&path("break-glass")) && stopped.contains(&path("notes")));
        // What break-glass never lowers does not lead there.
        for (rule, effect) in [
            (scanner, Effect::Restrict),
            (Rule::Cert, Effect::Block),
            (Rule::Check(gateway_policy::Check::Boot), Effect::Block),
        ] {
            let text = said(rule, effect);
            assert!(text.contains(&path("home")) && !text.contains("break-glass"));
        }
    }

    #[test]
    fn a_page_for_an_outage_leads_to_the_stored_notes() {
        let code = SupportCode::new();
        let text = page(
            &Words::of(&Failure::Upstream(Fault::new(FaultKind::ConnectTimeout))),
            code,
            &Support::default(),
            None,
        );
        assert!(text.contains("/.well-known/renraku-gateway/notes"));
        assert!(text.contains(code.as_str()));
        let text = page(
            &Words::of(&Failure::Misdirected),
            code,
            &Support::default(),
            None,
        );
        assert!(!text.contains("/notes"));
    }
}
