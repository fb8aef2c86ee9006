//! Configuring and starting a port.

use std::sync::Arc;

use super::config::{DeviceMtu, FrameLimits};
use super::{Port, PortConfig, PortError, PortInner, State, driver_name};
use crate::{Mempool, RxQueue, TxQueue, sys};

impl Port {
    /// Sets the port up, receiving into buffers of `pool`, which the port keeps. Returns notes on what the device
    /// cannot do but can be done without.
    ///
    /// # Errors
    /// When the device has too few queues, cannot do the MTU, or refuses. See [`PortError`].
    pub fn configure(&mut self, config: &PortConfig, pool: &Arc<Mempool>) -> Result<Vec<String>, PortError> {
        let port = &*self.inner;
        let device = || port.device.clone();
        if self.state == State::Started {
            return Err(PortError::Started { device: device() });
        }
        let mut control = port.control();
        let info = port.dev_info()?;
        check_queues(port, config, &info)?;
        let mut notes = Vec::new();
        let mtu = device_mtu(port, config.mtu, &info, &mut notes)?;
        if mtu.frame > u32::from(pool.data_room()) {
            let (frame, room, pool) = (mtu.frame, pool.data_room(), pool.name().to_owned());
            return Err(PortError::Buffers { device: device(), frame, room, pool });
        }

        // From here on the old queues may be gone.
        self.state = State::Open;
        let conf = eth_conf(port, config, mtu, &info, &mut notes);
        let (rx, tx) = (config.rx_queues, config.tx_queues);
        // SAFETY: the port is open and not started; DPDK copies `conf`.
        port.call("configuring it", |id| unsafe { sys::rte_eth_dev_configure(id, rx, tx, &raw const conf) })?;
        // Kept from before the first queue on, and for good: an old queue may still hold buffers.
        control.pools.push(Arc::clone(pool));
        set_up_queues(port, config, pool, &mut notes)?;
        tell_mtu(port, mtu, &mut notes)?;
        set_promiscuous(port, config.promiscuous, &mut notes)?;
        self.state = State::Configured { rx_queues: rx, tx_queues: tx };
        Ok(notes)
    }

    /// Starts the port, and hands out its queues in order.
    ///
    /// # Errors
    /// When it is not configured, is started already, or the driver refuses.
    pub fn start(&mut self) -> Result<(Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let device = || self.inner.device.clone();
        let (rx_queues, tx_queues) = match self.state {
            State::Open => return Err(PortError::NotConfigured { device: device() }),
            State::Started => return Err(PortError::Started { device: device() }),
            State::Configured { rx_queues, tx_queues } => (rx_queues, tx_queues),
        };
        {
            let mut control = self.inner.control();
            // SAFETY: the port is configured, with all queues set up.
            self.inner.call("starting it", |id| unsafe { sys::rte_eth_dev_start(id) })?;
            control.rx_queues = rx_queues;
        }
        self.state = State::Started;
        // SAFETY: started with that many queues, and it is stopped or configured again only after the last handle
        // is gone. This is reached once in the port's life, so each queue gets one handle.
        Ok(unsafe {
            (
                (0..rx_queues).map(|queue| RxQueue::new(&self.inner, queue)).collect(),
                (0..tx_queues).map(|queue| TxQueue::new(&self.inner, queue)).collect(),
            )
        })
    }

    /// Has the device take VLAN tags off what it receives, or leave them on, from one packet to the next. It was
    /// configured with that offload, so that its receive path can.
    ///
    /// # Errors
    /// When the device cannot change it, or not while it is started.
    pub fn set_vlan_strip(&self, on: bool) -> Result<(), PortError> {
        let _control = self.inner.control();
        // SAFETY: the port is open.
        let now = unsafe { sys::rte_eth_dev_get_vlan_offload(self.id()) };
        let wanted = if on { now | sys::DPDK_SYS_VLAN_STRIP } else { now & !sys::DPDK_SYS_VLAN_STRIP };
        self.inner.call("changing whether it takes VLAN tags off", |id| {
            if now < 0 {
                return now;
            }
            // SAFETY: the port is open.
            unsafe { sys::rte_eth_dev_set_vlan_offload(id, wanted) }
        })
    }

    /// Changes the largest IP packet. Returns notes as [`configure`](Self::configure) does.
    ///
    /// # Errors
    /// When the device cannot do it, or not while it is started.
    pub fn set_mtu(&self, mtu: u16) -> Result<Vec<String>, PortError> {
        let control = self.inner.control();
        let info = self.inner.dev_info()?;
        let mut notes = Vec::new();
        let mtu = device_mtu(&self.inner, mtu, &info, &mut notes)?;
        if let Some(pool) = control.pools.last()
            && mtu.frame > u32::from(pool.data_room())
        {
            let (frame, room, pool) = (mtu.frame, pool.data_room(), pool.name().to_owned());
            return Err(PortError::Buffers { device: self.inner.device.clone(), frame, room, pool });
        }
        tell_mtu(&self.inner, mtu, &mut notes)?;
        Ok(notes)
    }
}

fn check_queues(
    port: &PortInner,
    config: &PortConfig,
    info: &sys::rte_eth_dev_info,
) -> Result<(), PortError> {
    let device = port.device.clone();
    if config.rx_queues == 0 || config.tx_queues == 0 {
        return Err(PortError::NoQueues { device });
    }
    let both = [("RX", config.rx_queues, info.max_rx_queues), ("TX", config.tx_queues, info.max_tx_queues)];
    for (direction, wanted, has) in both {
        if wanted > has {
            return Err(PortError::TooFewQueues { device, direction, wanted, has });
        }
    }
    Ok(())
}

fn device_mtu(
    port: &PortInner,
    mtu: u16,
    info: &sys::rte_eth_dev_info,
    notes: &mut Vec<String>,
) -> Result<DeviceMtu, PortError> {
    let limits = FrameLimits::of(info, &driver_name(info));
    let Some(told) = limits.device_mtu(mtu) else {
        return Err(PortError::Mtu { device: port.device.clone(), mtu, most: limits.max_mtu() });
    };
    if told.tight {
        notes.push(format!(
            "{}: frames are limited to {} bytes, so packets of {mtu} bytes do not fit with two tags",
            port.device, told.frame
        ));
    }
    Ok(told)
}

fn eth_conf(
    port: &PortInner,
    config: &PortConfig,
    mtu: DeviceMtu,
    info: &sys::rte_eth_dev_info,
    notes: &mut Vec<String>,
) -> sys::rte_eth_conf {
    let mut conf = sys::rte_eth_conf::default();
    conf.rxmode.mtu = u32::from(mtu.mtu);
    if config.offloads.rx_checksum {
        conf.rxmode.offloads |= sys::DPDK_SYS_RX_OFFLOAD_IPV4_CKSUM;
    }
    if config.offloads.vlan_strip {
        conf.rxmode.offloads |= sys::DPDK_SYS_RX_OFFLOAD_VLAN_STRIP;
    }
    if config.offloads.vlan_insert {
        conf.txmode.offloads |= sys::DPDK_SYS_TX_OFFLOAD_VLAN_INSERT;
    }
    if config.rx_queues > 1 {
        let hash = info.flow_type_rss_offloads & sys::DPDK_SYS_RSS_IP_TCP_UDP;
        if hash == 0 {
            notes.push(format!(
                "{}: the device does not hash packets over its {} RX queues, so all may come on one",
                port.device, config.rx_queues
            ));
        } else {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = hash;
        }
    }
    conf
}

fn set_up_queues(
    port: &PortInner,
    config: &PortConfig,
    pool: &Mempool,
    notes: &mut Vec<String>,
) -> Result<(), PortError> {
    let (mut rx_desc, mut tx_desc) = (config.rx_desc, config.tx_desc);
    // SAFETY: the port is configured, and the pointers are valid.
    port.call("choosing its descriptors", |id| unsafe {
        sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx_desc, &raw mut tx_desc)
    })?;
    if (rx_desc, tx_desc) != (config.rx_desc, config.tx_desc) {
        notes.push(format!(
            "{}: {rx_desc} RX and {tx_desc} TX descriptors a queue instead of {} and {}",
            port.device, config.rx_desc, config.tx_desc
        ));
    }
    let socket = port.socket().cast_unsigned();
    for queue in 0..config.rx_queues {
        // SAFETY: the queue's number is one that was configured, null means the driver's defaults, and the pool is
        // in `control` already, so it lives as long as the port.
        port.call("setting up an RX queue", |id| unsafe {
            sys::rte_eth_rx_queue_setup(id, queue, rx_desc, socket, std::ptr::null(), pool.as_ptr())
        })?;
    }
    for queue in 0..config.tx_queues {
        // SAFETY: as above.
        port.call("setting up a TX queue", |id| unsafe {
            sys::rte_eth_tx_queue_setup(id, queue, tx_desc, socket, std::ptr::null())
        })?;
    }
    Ok(())
}

/// Drops an error that says that the driver does not have the operation, with a note.
fn tolerate(
    result: Result<(), PortError>,
    port: &PortInner,
    note: &str,
    notes: &mut Vec<String>,
) -> Result<(), PortError> {
    match result {
        Err(PortError::Refused { errno, .. }) if errno.is_unsupported() => {
            notes.push(format!("{}: {note}", port.device));
            Ok(())
        }
        other => other,
    }
}

fn tell_mtu(port: &PortInner, mtu: DeviceMtu, notes: &mut Vec<String>) -> Result<(), PortError> {
    // SAFETY: the port is configured.
    let told = port.call("setting its MTU", |id| unsafe { sys::rte_eth_dev_set_mtu(id, mtu.mtu) });
    tolerate(told, port, "the driver has no MTU to set: frames of any length pass", notes)
}

fn set_promiscuous(port: &PortInner, on: bool, notes: &mut Vec<String>) -> Result<(), PortError> {
    // SAFETY: the port is configured.
    let told = port.call("choosing promiscuous mode", |id| unsafe {
        if on { sys::rte_eth_promiscuous_enable(id) } else { sys::rte_eth_promiscuous_disable(id) }
    });
    tolerate(told, port, "the driver has no promiscuous mode: it receives whatever comes", notes)
}
