//! The proxy auto-configuration file: the city's hosts through the box, everything else directly. Serves no other purpose.

use bytes::Bytes;

use crate::config::ProxyConfig;

pub(crate) const PATH: &str = "/proxy.pac";
pub(crate) const MEDIA_TYPE: &str = "application/x-ns-proxy-autoconfig";

/// The file as it is served. Host names were checked to be such, so that none can break out of its string.
pub(crate) fn file(config: &ProxyConfig) -> Bytes {
    let mut hosts: Vec<&str> = config
        .sites
        .iter()
        .flat_map(|site| site.hosts.iter().map(String::as_str))
        .collect();
    hosts.sort_unstable();
    let list: Vec<String> = hosts
        .iter()
        .map(|host| format!("\"{}\": 1", host.to_ascii_lowercase()))
        .collect();
    let text = format!(
        "var city = {{ {} }};\n\
         function FindProxyForURL(url, host) {{\n\
         \x20 return city.hasOwnProperty(host.toLowerCase()) ? \"PROXY {}\" : \"DIRECT\";\n\
         }}\n",
        list.join(", "),
        config.proxy_authority
    );
    Bytes::from(text)
}
