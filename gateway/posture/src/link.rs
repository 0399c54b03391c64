//! Whether any network is connected to the box at all. It sends nothing and looks at no address.

use crate::System;

/// The kernel's list of interfaces.
const INTERFACES: &str = "sys/class/net";

impl System {
    /// False only when there are interfaces beside the loopback and none of them has a carrier: nobody is connected.
    ///
    /// With no interface at all it is true: then the driver is missing, and that is no matter of a cable.
    #[must_use]
    pub fn has_link(&self) -> bool {
        let names = self.names(INTERFACES).unwrap_or_default();
        let mut physical = names
            .iter()
            // Virtual interfaces have no device behind them.
            .filter(|name| self.path(format!("{INTERFACES}/{name}/device")).exists())
            .peekable();
        if physical.peek().is_none() {
            return true;
        }
        physical.any(|name| {
            // An interface that is down cannot be read, and is not connected.
            let carrier = self.text(format!("{INTERFACES}/{name}/carrier"));
            carrier.is_ok_and(|carrier| carrier.trim() == "1")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_without_a_carrier_mean_that_nobody_is_connected() {
        let folder = tempfile::tempdir().unwrap();
        let system = System::new(folder.path());
        let interface = |name: &str, physical: bool, carrier: &str| {
            let at = folder.path().join(INTERFACES).join(name);
            std::fs::create_dir_all(&at).unwrap();
            if physical {
                std::fs::create_dir_all(at.join("device")).unwrap();
            }
            std::fs::write(at.join("carrier"), carrier).unwrap();
        };
        assert!(system.has_link(), "no interface is a missing driver");
        interface("lo", false, "1\n");
        assert!(system.has_link());
        interface("eth0", true, "0\n");
        assert!(!system.has_link());
        interface("eth1", true, "1\n");
        assert!(system.has_link());
    }
}
