//! Pieces that vectors are put together from.

/// A request that must never be taken for one.
macro_rules! smuggled {
    () => {
        "GET /smuggled HTTP/1.1\r\nHost: city.localhost\r\n\r\n"
    };
}

/// A sound POST with these framing fields, and what follows the head.
macro_rules! post {
    ($fields:literal, $content:literal) => {
        concat!(
            "POST /p HTTP/1.1\r\nHost: city.localhost\r\n",
            $fields,
            "\r\n",
            $content
        )
    };
}

/// The same with chunked content.
macro_rules! chunks {
    ($content:literal) => {
        post!("Transfer-Encoding: chunked\r\n", $content)
    };
}

/// A GET with this field line besides Host.
macro_rules! get {
    ($field:literal) => {
        concat!(
            "GET /g HTTP/1.1\r\nHost: city.localhost\r\n",
            $field,
            "\r\n\r\n"
        )
    };
}
