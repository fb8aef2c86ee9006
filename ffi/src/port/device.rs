//! From a device string to a DPDK port, and back to nothing.

use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::PortError;
use crate::errno::{EEXIST, ENOENT};
use crate::{Eal, Errno, log, sys};

/// A port that a `Port` owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenPort {
    /// DPDK's number.
    pub id: u16,
    /// Address of its `rte_device`; ports of one NIC may share it.
    pub device: usize,
}

/// A device string, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeviceName {
    /// The PCI address with its domain, or the virtual device's name.
    pub name: String,
    /// `name` and the arguments, as DPDK takes them.
    pub devargs: String,
    /// Whether it is a PCI address.
    pub pci: bool,
}

impl DeviceName {
    /// Takes a device string apart.
    pub(super) fn parse(device: &str) -> Result<Self, PortError> {
        let device = device.trim();
        let (name, arguments) = device.split_at(device.find(',').unwrap_or(device.len()));
        let plain = |c: char| c.is_ascii_graphic() && c != '/';
        if name.is_empty() || !name.chars().all(plain) || device.contains('\0') {
            return Err(PortError::BadName { device: device.to_owned() });
        }
        let address = pci_address(name);
        let pci = address.is_some();
        let name = address.unwrap_or_else(|| name.to_owned());
        let devargs = format!("{name}{arguments}");
        Ok(Self { name, devargs, pci })
    }
}

/// `DDDD:BB:DD.F` of a PCI address with or without its domain; `None` for anything else.
fn pci_address(name: &str) -> Option<String> {
    let (rest, function) = name.rsplit_once('.')?;
    let mut parts: Vec<&str> = rest.split(':').collect();
    if parts.len() == 2 {
        parts.insert(0, "0");
    }
    let [domain, bus, device] = parts[..] else { return None };
    let hex = |text: &str, most: u32| u32::from_str_radix(text, 16).ok().filter(|&n| n <= most);
    let (domain, bus) = (hex(domain, 0xffff_ffff)?, hex(bus, 0xff)?);
    let (device, function) = (hex(device, 0x1f)?, hex(function, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

/// Has DPDK probe the device, unless it did at start-up, and claims its port.
pub(super) fn claim(eal: &Arc<Eal>, device: &DeviceName) -> Result<OpenPort, PortError> {
    let name = device.name.clone();
    let Ok(devargs) = CString::new(device.devargs.as_str()) else {
        return Err(PortError::BadName { device: name });
    };
    let _hotplug = eal.hotplug.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = log::mark();
    let found = match find(&name, &devargs) {
        Some(id) => Ok(id),
        None => probe(device, &devargs, mark).and_then(|()| {
            find(&name, &devargs)
                .ok_or_else(|| PortError::NoPort { device: name.clone(), log: log::complaints_since(mark) })
        }),
    };
    let id = found?;
    let mut open = eal.open_ports.lock().unwrap_or_else(PoisonError::into_inner);
    if open.iter().any(|p| p.id == id) {
        return Err(PortError::AlreadyOpen { device: name });
    }
    let mut info = sys::rte_eth_dev_info::default();
    // SAFETY: `info` is a valid place for DPDK to write to.
    let ret = unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) };
    Errno::check(ret).map_err(|errno| PortError::Probe {
        device: name,
        errno,
        log: log::complaints_since(mark),
    })?;
    let port = OpenPort { id, device: info.device.expose_provenance() };
    open.push(port);
    Ok(port)
}

/// The device's port, if DPDK has one.
fn find(name: &str, devargs: &CString) -> Option<u16> {
    let c_name = CString::new(name).ok()?;
    let mut id = 0;
    // SAFETY: a C string, and a valid place for the port's number.
    if unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) } == 0 {
        return Some(id);
    }
    // Some drivers name their ports otherwise.
    let mut iterator = sys::rte_dev_iterator::default();
    // SAFETY: the iterator is ours, the string outlives it, and it is cleaned up unless it came to its end, where
    // it cleans itself up.
    unsafe {
        if sys::rte_eth_iterator_init(&raw mut iterator, devargs.as_ptr()) != 0 {
            return None;
        }
        let id = sys::rte_eth_iterator_next(&raw mut iterator);
        if id == sys::DPDK_SYS_MAX_PORTS {
            return None;
        }
        sys::rte_eth_iterator_cleanup(&raw mut iterator);
        Some(id)
    }
}

fn probe(device: &DeviceName, devargs: &CString, mark: log::Mark) -> Result<(), PortError> {
    let name = device.name.clone();
    let sysfs = Path::new("/sys/bus/pci/devices").join(&name);
    if device.pci && !sysfs.exists() {
        return Err(PortError::NoSuchPciDevice { device: name });
    }
    // SAFETY: the EAL is running, hot-plug is locked, and DPDK copies the string.
    let errno = match Errno::check(unsafe { sys::rte_dev_probe(devargs.as_ptr()) }) {
        Ok(_) | Err(EEXIST) => return Ok(()),
        Err(errno) => errno,
    };
    let log = log::complaints_since(mark);
    if device.pci {
        let driver = sysfs.join("driver").read_link().ok();
        let driver = driver.as_deref().and_then(Path::file_name).and_then(|d| d.to_str()).map(str::to_owned);
        if !driver
            .as_deref()
            .is_some_and(|d| d.starts_with("vfio") || d.contains("uio") || d.starts_with("mlx"))
        {
            let driver = driver.unwrap_or_else(|| "no driver".to_owned());
            return Err(PortError::NotBound { device: name, driver, log });
        }
    } else if errno == ENOENT || log.contains("failed to parse device") || log.contains("no driver found") {
        return Err(PortError::NoDriver { device: name, log });
    }
    Err(PortError::Probe { device: name, errno, log })
}

/// Closes a stopped port; removes its device if no other open port is on it, so that what it made (a TAP, say) goes.
pub(super) fn release(eal: &Eal, port: OpenPort) {
    let _hotplug = eal.hotplug.lock().unwrap_or_else(PoisonError::into_inner);
    let mut open = eal.open_ports.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|p| p.id != port.id);
    let shared = open.iter().any(|p| p.device == port.device);
    // SAFETY: the port is stopped, nobody has a queue of it, and its number is not used again by us.
    unsafe { sys::rte_eth_dev_close(port.id) };
    if !shared {
        let device = std::ptr::with_exposed_provenance_mut(port.device);
        // SAFETY: the device was there when the port was claimed, only we remove devices, and its ports are closed.
        unsafe { sys::rte_dev_remove(device) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_get_their_domain() {
        let parsed = DeviceName::parse("3B:00.1,representor=0").unwrap();
        assert_eq!(parsed.name, "0000:3b:00.1");
        assert_eq!(parsed.devargs, "0000:3b:00.1,representor=0");
        assert!(parsed.pci);
        assert_eq!(DeviceName::parse("10000:e1:1f.7").unwrap().name, "10000:e1:1f.7");
    }

    #[test]
    fn other_names_are_virtual_devices() {
        let parsed = DeviceName::parse(" net_tap0,iface=lan0 ").unwrap();
        let expected =
            DeviceName { name: "net_tap0".into(), devargs: "net_tap0,iface=lan0".into(), pci: false };
        assert_eq!(parsed, expected);
        assert!(!DeviceName::parse("3b:20.0").unwrap().pci, "a device number has five bits");
        assert!(!DeviceName::parse("3b:00.8").unwrap().pci, "a function number has three bits");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in ["", " ", ",iface=lan0", "net tap0", "../x", "net_tap0,iface=\0"] {
            assert!(matches!(DeviceName::parse(bad), Err(PortError::BadName { .. })), "{bad:?}");
        }
    }
}
