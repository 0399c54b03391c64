//! The checks in the words of a care home: what each is called, who can put it right and how.
//! Judges nothing.

use gateway_policy::{Check, Effect, Source};

use crate::report::{About, Line, Mark};

/// Who can put a check right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixer {
    /// The facility, with a page of ours or at the device.
    Facility,
    /// The box by itself, or the city. Staff are not troubled with it before it restricts them.
    City,
}

/// What a check says to people.
pub(crate) struct Words {
    pub(crate) name: &'static str,
    /// What is wrong, when it is.
    pub(crate) trouble: &'static str,
    /// The one thing to do.
    pub(crate) action: &'static str,
    pub(crate) fixer: Fixer,
}

const fn facility(name: &'static str, trouble: &'static str, action: &'static str) -> Words {
    Words {
        name,
        trouble,
        action,
        fixer: Fixer::Facility,
    }
}

const fn city(name: &'static str, trouble: &'static str, action: &'static str) -> Words {
    Words {
        name,
        trouble,
        action,
        fixer: Fixer::City,
    }
}

const CALL: &str = "下の問い合わせ先に電話してください。";
const ALONE: &str = "装置が自動で直します。続くときは、下の問い合わせ先に電話してください。";

pub(crate) const fn words(check: Check) -> Words {
    match check {
        Check::AvAlive => city(
            "ウイルス検査の動作",
            "ウイルス検査が止まっています。",
            "自動で復旧を試みています。15分たっても変わらないときは、装置の電源を入れ直してください。",
        ),
        Check::AvDb => city(
            "ウイルス定義の新しさ",
            "装置のウイルス定義が古くなっています。",
            ALONE,
        ),
        Check::AvSelf => city(
            "ウイルス検査の自己点検",
            "ウイルス検査の自己点検に失敗しました。",
            ALONE,
        ),
        Check::AvConf => city(
            "ウイルス検査の設定",
            "ウイルス検査の設定が、配布されたものと違います。",
            CALL,
        ),
        Check::Boot => city(
            "装置の改ざん検知",
            "装置が改ざんされたおそれがあります。",
            "装置に触れず、下の問い合わせ先に電話してください。",
        ),
        Check::Upd => city(
            "装置のソフトウェアの更新",
            "装置のソフトウェアに更新があります。",
            "夜間に自動で更新します。装置の電源を切らないでください。",
        ),
        Check::Sbom => city(
            "ソフトウェア一覧の一致",
            "装置のソフトウェアが、配布された一覧と一致しません。",
            CALL,
        ),
        Check::UsbBox => facility(
            "装置へのUSB機器の接続",
            "装置にUSBの記録媒体が差し込まれました。",
            "装置からUSBの記録媒体を抜いてください。この装置では使えません。",
        ),
        Check::Clock => city(
            "装置の時計",
            "装置の時計が正しいことを確かめられません。",
            "回線の機器の電源とケーブルを確かめてください。つながると自動で直ります。",
        ),
        Check::Log => city("点検記録の保全", "点検記録の確認が取れていません。", ALONE),
        Check::PcAv => facility(
            "ウイルス対策ソフト",
            "ウイルス対策ソフトが働いていません。",
            "この端末のウイルス対策ソフトを有効にしてください。",
        ),
        Check::PcSig => facility(
            "ウイルス定義",
            "ウイルス対策ソフトの定義が古くなっています。",
            "この端末のウイルス対策ソフトで「更新」を実行してください。",
        ),
        Check::PcOs => facility(
            "OSの更新",
            "OSの更新がされていません。",
            "この端末で Windows Update などの更新を実行し、再起動してください。",
        ),
        Check::PcSw => facility(
            "ソフトウェアの一覧",
            "確認されていないソフトウェアがあります。",
            "この端末に入っているソフトウェアを確かめ、不要なものを削除してください。",
        ),
        Check::PcLock => facility(
            "画面ロック",
            "画面ロックが15分以内になっていません。",
            "この端末の画面ロックを15分以内に設定してください。",
        ),
        Check::PcOn => facility(
            "退勤時の電源",
            "使われていない時間に、電源が入ったままでした。",
            "退勤するときは、この端末の電源を切ってください。",
        ),
        Check::PcUsb => facility(
            "USB記録媒体の使用",
            "台帳にない記録媒体が使われました。",
            "使った媒体を媒体台帳に登録してください。",
        ),
        Check::PcEnc => facility(
            "ディスクの暗号化",
            "ディスクが暗号化されていません。",
            "この端末で BitLocker などの暗号化を有効にしてください。",
        ),
        Check::PcRpt => facility(
            "点検結果の受信",
            "点検結果が届いていません。",
            "この端末の電源を入れ、この装置につながることを確かめてください。",
        ),
        Check::Media => facility(
            "媒体台帳の点検",
            "媒体台帳の点検の時期です。",
            "媒体がすべてあることを確かめて、点検を記録してください。",
        ),
        Check::Decl => facility(
            "紙とタブレットの申告",
            "紙とタブレットの取り扱いの申告の時期です。",
            "取り扱いを確かめて、申告してください。",
        ),
        Check::Training => facility(
            "セキュリティ研修",
            "年に1回のセキュリティ研修の時期です。",
            "研修を行い、実施日と参加人数を記録してください。",
        ),
    }
}

impl Mark {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Pass => "適合",
            Self::NotApplicable => "該当なし",
            Self::Warn => "注意",
            Self::Unknown => "未確認",
            Self::Fail => "不適合",
        }
    }

    /// In the printed report beside the Japanese word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::NotApplicable => "NOT APPLICABLE",
            Self::Warn => "WARN",
            Self::Unknown => "UNKNOWN",
            Self::Fail => "FAIL",
        }
    }

    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Pass => "green",
            Self::NotApplicable | Self::Unknown => "off",
            Self::Warn => "amber",
            Self::Fail => "red",
        }
    }

    /// Whether somebody has to do something.
    pub(crate) const fn is_trouble(self) -> bool {
        matches!(self, Self::Warn | Self::Unknown | Self::Fail)
    }
}

/// Where evidence comes from, as every line says.
pub(crate) const fn source(source: Option<Source>) -> &'static str {
    match source {
        Some(Source::Measured) => "測定",
        Some(Source::Agent) => "エージェント",
        Some(Source::Script) => "スクリプト",
        Some(Source::Declared) => "申告",
        None => "なし",
    }
}

pub(crate) const fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "制限なし",
        Effect::Warn => "注意の表示のみ",
        Effect::Restrict => "ファイルの送受信を停止",
        Effect::Block => "連絡帳への接続を停止",
    }
}

impl Line {
    /// The page where the facility puts it right: address and label.
    pub(crate) fn place(&self) -> Option<(String, &'static str)> {
        match (self.check, &self.about) {
            (Check::Media, _) => Some(("/media/review".to_owned(), "媒体台帳を点検する")),
            (Check::PcUsb, _) => Some(("/media/new".to_owned(), "媒体を登録する")),
            (Check::Training, _) => Some(("/training".to_owned(), "研修を記録する")),
            (Check::Decl, _) => Some(("/declarations".to_owned(), "申告する")),
            (_, About::Device { id, .. }) => Some((format!("/devices/{id}"), "この端末を見る")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own_and_whole_sentences() {
        let mut names = Vec::new();
        for check in Check::ALL {
            let words = words(check);
            assert!(words.trouble.ends_with('。') && words.action.ends_with('。'));
            names.push(words.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Check::ALL.len());
    }
}
