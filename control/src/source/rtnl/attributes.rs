//! Attributes: type, length, value, each on four bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::RtnlError;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without the flags for nesting and byte order.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The attributes in `bytes`. One with a wrong length is the last item.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, RtnlError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let left = std::mem::take(&mut rest);
        // Padding behind the last one.
        let [a, b, c, d] = *left.first_chunk()?;
        let said = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = left.get(4..said) else {
            return Some(Err(RtnlError::Attribute { said, left: left.len() }));
        };
        rest = left.get(said.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Attribute { kind: u16::from_ne_bytes([c, d]) & 0x3fff, value }))
    })
}

impl Attribute<'_> {
    fn wrong(&self) -> RtnlError {
        RtnlError::Value { kind: self.kind, length: self.value.len() }
    }

    /// A number.
    ///
    /// # Errors
    /// It has not four bytes.
    pub fn number(&self) -> Result<u32, RtnlError> {
        let bytes = self.value.try_into().map_err(|_| self.wrong())?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// A number of two bytes.
    ///
    /// # Errors
    /// It has not two bytes.
    pub fn short(&self) -> Result<u16, RtnlError> {
        let bytes = self.value.try_into().map_err(|_| self.wrong())?;
        Ok(u16::from_ne_bytes(bytes))
    }

    /// An address, of the family that its length says.
    ///
    /// # Errors
    /// It has neither four nor sixteen bytes.
    pub fn address(&self) -> Result<IpAddr, RtnlError> {
        if let Ok(v4) = <[u8; 4]>::try_from(self.value) {
            return Ok(Ipv4Addr::from(v4).into());
        }
        let v6 = <[u8; 16]>::try_from(self.value).map_err(|_| self.wrong())?;
        Ok(Ipv6Addr::from(v6).into())
    }

    /// `RTA_VIA`: a family, and an address of it.
    ///
    /// # Errors
    /// It is of another family than IP, or not of that family's length.
    pub fn via(&self) -> Result<IpAddr, RtnlError> {
        let Some((family, address)) = self.value.split_first_chunk() else { return Err(self.wrong()) };
        let address = Attribute { kind: self.kind, value: address }.address()?;
        match (i32::from(u16::from_ne_bytes(*family)), address) {
            (libc::AF_INET, IpAddr::V4(_)) | (libc::AF_INET6, IpAddr::V6(_)) => Ok(address),
            _ => Err(self.wrong()),
        }
    }
}
