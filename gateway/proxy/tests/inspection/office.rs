//! Two hundred ordinary office files of many kinds pass, up and down, and arrive unchanged.

use bytes::Bytes;
use http::Version;

use crate::{
    files,
    site::{Content, Site},
    two_hundred::two_hundred,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_ordinary_office_files_pass_in_both_directions() {
    let site = Site::start().await;
    let files = two_hundred(0);
    assert_eq!(files.len(), 200);
    let mut expected = 0;
    for (number, file) in files.iter().enumerate() {
        let boundary = "----WebKitFormBoundaryq1w2e3r4t5y6u7i8";
        let form = files::form(boundary, &file.name, file.media_type, &file.body);
        expected += form.len() as u64;
        let version = [Version::HTTP_11, Version::HTTP_2][number % 2];
        let media_type = format!("multipart/form-data; boundary={boundary}");
        let answer = site
            .post(version, &[("content-type", &media_type)], form)
            .await;
        assert_eq!(answer.status, 200, "up: {} {answer:?}", file.name);

        let path = format!("/files/{number}");
        let disposition = format!("attachment; filename=\"f\"; filename*=UTF-8''{number}");
        let content = Content::new(Bytes::from(file.body.clone()))
            .with("content-type", file.media_type)
            .with("content-disposition", &disposition);
        site.serve(&path, content);
        let answer = site.get(version, &path, &[]).await;
        assert_eq!(answer.status, 200, "down: {} {answer:?}", file.name);
        assert!(answer.body == file.body, "{} has changed", file.name);
    }
    assert_eq!(site.received(), expected);
}
