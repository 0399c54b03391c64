//! What can be wrong with the framing of a request, each with the section that says so.
//!
//! It names the rule that was broken and nothing of the bytes that broke it: these go to logs and answers.

/// Declares the violations with rule, status and wording in one table, so that none can be forgotten.
macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident, $status:literal, $section:literal, $text:literal;)+) => {
        /// A broken rule of HTTP/1 framing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Violation {
            $($(#[$doc])* #[error($text)] $name,)+
        }

        impl Violation {
            /// Every violation there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The section of the standard that is broken; RFC 9112 where none is named.
            #[must_use]
            pub const fn section(self) -> &'static str {
                match self { $(Self::$name => $section,)+ }
            }

            /// The status code of the answer: 400, 414, 431 or 505.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
        }
    };
}

violations! {
    /// More than the one empty line before the request line that robustness asks to ignore.
    EmptyLines, 400, "§2.2", "more than one empty line before the request line";
    /// A line ended by LF without CR.
    BareLineFeed, 400, "§2.2", "a line ends with LF instead of CRLF";
    /// CR that is not followed by LF.
    BareCarriageReturn, 400, "§2.2", "CR without LF";
    /// A control character (NUL and DEL included) other than HTAB.
    ControlCharacter, 400, "RFC 9110 §5.5", "a control character in the head";
    /// Not `method SP request-target SP HTTP-version`.
    RequestLine, 400, "§3", "the request line is malformed";
    /// The request line exceeds [`super::MAX_REQUEST_LINE`].
    RequestLineTooLong, 414, "§3", "the request line is too long";
    /// The method is not a token.
    Method, 400, "§3.1", "the method is not a token";
    /// `HTTP/d.d` other than 1.0 and 1.1.
    Version, 505, "§2.3", "only HTTP/1.0 and HTTP/1.1 are spoken on this connection";
    /// The request target has characters that a URI cannot have.
    TargetCharacter, 400, "§3.2", "the request target has a character that must be percent-encoded";
    /// The request target has none of the four forms, or one that its method does not allow.
    TargetForm, 400, "§3.2", "the request target's form does not fit the method";
    /// The authority in the request target is not `host [ ":" port ]`.
    TargetAuthority, 400, "§3.2.2", "the request target's authority is invalid";
    /// A field line without a colon.
    FieldLine, 400, "§5", "a field line is malformed";
    /// A field name that is not a token.
    FieldName, 400, "§5.1", "a field name is not a token";
    /// Whitespace between field name and colon.
    SpaceBeforeColon, 400, "§5.1", "whitespace before a field's colon";
    /// A line that begins with whitespace.
    LineFolding, 400, "§5.2", "a folded field line";
    /// The head exceeds [`super::MAX_HEAD`].
    HeadTooLarge, 431, "RFC 6585 §5", "the head is too large";
    /// The head has more than [`super::MAX_FIELDS`] field lines.
    TooManyFields, 431, "RFC 6585 §5", "the head has too many field lines";
    /// HTTP/1.1 without Host.
    HostMissing, 400, "§3.2", "Host is missing";
    /// Two Host field lines.
    HostRepeated, 400, "§3.2", "Host is repeated";
    /// Host is not `host [ ":" port ]`.
    HostInvalid, 400, "§3.2", "Host is invalid";
    /// Host names another authority than the request target.
    HostDiffersFromTarget, 400, "§3.2", "Host and the request target name different authorities";
    /// Content-Length is not a plain number below 2^63.
    ContentLengthInvalid, 400, "§6.3", "Content-Length is not a number";
    /// Two Content-Length field lines, be they equal.
    ContentLengthRepeated, 400, "§6.3", "Content-Length is repeated";
    /// Content-Length beside Transfer-Encoding.
    LengthWithEncoding, 400, "§6.1", "Content-Length and Transfer-Encoding together";
    /// Transfer-Encoding is anything but one `chunked`.
    TransferEncoding, 400, "§6.1", "Transfer-Encoding is not exactly \"chunked\"";
    /// Transfer-Encoding in HTTP/1.0.
    TransferEncodingInHttp10, 400, "§6.1", "Transfer-Encoding in HTTP/1.0";
    /// CONNECT with content.
    ConnectWithContent, 400, "RFC 9110 §9.3.6", "CONNECT with content";
    /// The chunk size is not plain hexadecimal below 2^63.
    ChunkSize, 400, "§7.1", "a chunk size is invalid";
    /// The chunk extension does not follow the grammar.
    ChunkExtension, 400, "§7.1.1", "a chunk extension is malformed";
    /// Chunk extensions exceed [`super::MAX_CHUNK_LINE`] or [`super::MAX_CHUNK_EXTENSIONS`].
    ChunkExtensionsTooLarge, 400, "§7.1.1", "chunk extensions are too large";
    /// Chunk data that is not followed by CRLF.
    ChunkEnd, 400, "§7.1", "chunk data does not end where its size says";
    /// A field in the trailers that belongs into the head.
    TrailerForbidden, 400, "RFC 9110 §6.5.1", "a field that must not be a trailer";
    /// The trailers exceed [`super::MAX_TRAILERS`] or [`super::MAX_TRAILER_FIELDS`].
    TrailersTooLarge, 431, "RFC 6585 §5", "the trailers are too large";
}

impl Violation {
    /// The violation behind an error that came through hyper, if there is one.
    ///
    /// A request body whose framing is broken half-way ends with an error for whoever reads it; this tells the
    /// client's fault (answer [`Violation::status`]) from a lost connection.
    #[must_use]
    pub fn behind(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(violation) = error.downcast_ref::<Self>() {
                return Some(*violation);
            }
            // An `io::Error` does not show its payload as `source`.
            let payload = error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .and_then(|payload| payload.downcast_ref::<Self>());
            if let Some(violation) = payload {
                return Some(*violation);
            }
            cause = error.source();
        }
        None
    }
}

impl From<Violation> for std::io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, violation)
    }
}
