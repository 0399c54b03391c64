//! Provisions a box the way a facility manager does: opens its setup page and sends the form, here with curl.
//!
//! It does not call the provisioning library and knows nothing that is not on the page.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::gatewayd::Gatewayd;
use crate::{Error, Result, binaries, wait};

/// What the page says at the end.
pub const READY: &str = "準備完了";

/// A facility manager would have given up by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Types `number` and `code` into the setup page and waits until it says that the box is ready.
///
/// # Errors
/// When there is no such page or it ends with anything else; the error holds what it said.
pub fn provision(gateway: &Gatewayd, number: &str, code: &str) -> Result<()> {
    provision_at(&gateway.console_url(), gateway.directory(), number, code)
}

/// The same for a box of which only the console's address is known; cookies are kept in `directory`.
///
/// # Errors
/// As [`provision`].
pub fn provision_at(console_url: &str, directory: &Path, number: &str, code: &str) -> Result<()> {
    let visitor = Visitor::new(directory)?;
    let page = visitor.open(&format!("{console_url}setup"))?;
    let form = Form::find(&page, &["number", "access_code"])?;
    let mut answer = visitor.submit(
        &form.filled(&[("number", number), ("access_code", code)]),
        &page,
    )?;
    wait::until("the setup page to say 準備完了", PATIENCE, || {
        if answer.text.contains(READY) {
            return Some(Ok(()));
        }
        if answer.text.contains("<form") {
            return Some(Err(Error::new(format!(
                "the setup page answered: {}",
                visible(&answer.text)
            ))));
        }
        // The box changes its certificate at the end; between the two an attempt may fail.
        if let Ok(next) = visitor.open(&answer.url) {
            answer = next;
        }
        None
    })
    .and_then(|inner| inner)
}

/// A page and the address that it came from.
struct Page {
    url: String,
    text: String,
}

/// curl with a cookie jar.
struct Visitor {
    curl: PathBuf,
    jar: PathBuf,
}

impl Visitor {
    fn new(directory: &Path) -> Result<Self> {
        Ok(Self {
            curl: binaries::debian("curl", "curl")?,
            jar: directory.join("cookies"),
        })
    }

    fn open(&self, url: &str) -> Result<Page> {
        self.run(&[url])
    }

    fn submit(&self, form: &Form, page: &Page) -> Result<Page> {
        let target = absolute(&form.action, &page.url);
        let origin = page.url.split('/').take(3).collect::<Vec<_>>().join("/");
        let mut arguments = vec![
            "--header".to_owned(),
            format!("Origin: {origin}"),
            "--referer".to_owned(),
            page.url.clone(),
        ];
        for (name, value) in &form.fields {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        arguments.push(target);
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Before it is provisioned the box can only show a certificate of its own making, hence `--insecure`.
    fn run(&self, arguments: &[&str]) -> Result<Page> {
        let output = Command::new(&self.curl)
            .args([
                "--silent",
                "--show-error",
                "--insecure",
                "--location",
                "--max-time",
                "60",
                "--noproxy",
                "*",
            ])
            .args(["--write-out", "\n%{url_effective}", "--cookie-jar"])
            .arg(&self.jar)
            .arg("--cookie")
            .arg(&self.jar)
            .args(arguments)
            .output()
            .map_err(|error| Error::new("curl cannot be started").because(error))?;
        if !output.status.success() {
            return Err(Error::new(format!(
                "the setup page cannot be opened: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, url) = all.rsplit_once('\n').unwrap_or((&all, ""));
        Ok(Page {
            url: url.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// A form as a browser would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    action: String,
    fields: Vec<(String, String)>,
}

impl Form {
    /// The page's form that has all of `names`.
    fn find(page: &Page, names: &[&str]) -> Result<Self> {
        page.text
            .split("<form")
            .skip(1)
            .map(|rest| Self::parse(rest.split("</form").next().unwrap_or(rest)))
            .find(|form| {
                names
                    .iter()
                    .all(|name| form.fields.iter().any(|(found, _)| found == name))
            })
            .ok_or_else(|| {
                Error::new(format!(
                    "{} has no form with {}: {}",
                    page.url,
                    names.join(", "),
                    visible(&page.text)
                ))
            })
    }

    fn parse(form: &str) -> Self {
        let (tag, inner) = form.split_once('>').unwrap_or((form, ""));
        let fields = inner.split("<input").skip(1).filter_map(|rest| {
            let input = rest.split('>').next().unwrap_or(rest);
            Some((
                attribute(input, "name")?,
                attribute(input, "value").unwrap_or_default(),
            ))
        });
        Self {
            action: attribute(tag, "action").unwrap_or_default(),
            fields: fields.collect(),
        }
    }

    fn filled(&self, values: &[(&str, &str)]) -> Self {
        let mut form = self.clone();
        for (name, value) in &mut form.fields {
            if let Some((_, typed)) = values.iter().find(|(wanted, _)| wanted == name) {
                *value = (*typed).to_owned();
            }
        }
        form
    }
}

/// An attribute's value, its character references resolved.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let value = rest.split('"').next()?;
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&#x2F;", "/")
            .replace("&#47;", "/")
            .replace("&amp;", "&"),
    )
}

/// Where a form's action leads from its page.
fn absolute(action: &str, page: &str) -> String {
    let origin = page.split('/').take(3).collect::<Vec<_>>().join("/");
    match action {
        "" => page.to_owned(),
        _ if action.contains("://") => action.to_owned(),
        _ if action.starts_with('/') => format!("{origin}{action}"),
        _ => format!(
            "{}/{action}",
            page.rsplit_once('/').map_or(page, |(folder, _)| folder)
        ),
    }
}

/// What a person sees of a page: its text without tags, styles and scripts.
fn visible(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let hidden = ["style", "script"]
            .into_iter()
            .find(|name| tag.starts_with(name));
        let end = hidden.map_or_else(|| ">".to_owned(), |name| format!("</{name}>"));
        rest = tag.split_once(&end).map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<html><style>p{}</style><form action="/search"><input name="q"></form>
        <form method="post" action="/setup"><p>番号</p><input type="hidden" name="csrf" value="a&quot;b">
        <input name="number" value=""><input name="access_code"></form></html>"#;

    #[test]
    fn the_form_is_found_by_its_fields_and_keeps_its_hidden_ones() {
        let page = Page {
            url: "https://box.localhost:1/setup".to_owned(),
            text: PAGE.to_owned(),
        };
        let form = Form::find(&page, &["number", "access_code"])
            .unwrap()
            .filled(&[("access_code", "1")]);
        assert_eq!(
            absolute(&form.action, &page.url),
            "https://box.localhost:1/setup"
        );
        let field = |name: &str| {
            form.fields
                .iter()
                .find(|(found, _)| found == name)
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(
            (
                field("csrf").as_str(),
                field("number").as_str(),
                field("access_code").as_str()
            ),
            ("a\"b", "", "1")
        );
    }

    #[test]
    fn a_page_without_the_form_is_quoted_in_the_error() {
        let page = Page {
            url: "https://box.localhost:1/".to_owned(),
            text: "<p>工事中</p>".to_owned(),
        };
        assert!(
            Form::find(&page, &["access_code"])
                .unwrap_err()
                .to_string()
                .contains("工事中")
        );
    }
}
