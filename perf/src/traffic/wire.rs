//! The ports as the generator sees them; DPDK's, or a simulated device in tests.

/// Some ports, and a clock.
pub trait Wire {
    /// Ticks that only go up.
    fn now(&mut self) -> u64;

    /// Ticks a second.
    fn hz(&self) -> u64;

    /// How many frames the port can be given now, at most `most`. Frames that wait from earlier go first.
    fn room(&mut self, port: usize, most: usize) -> usize;

    /// Sends frames of these lengths, at most as many as [`room`](Self::room) said. `fill` is called once for each,
    /// with its place and its buffer, which holds the [pattern](super::stamp::PATTERN) from its first byte on. Returns
    /// how many the port refused; what is not refused goes out, now or later.
    fn send(&mut self, port: usize, lens: &[u16], fill: impl FnMut(usize, &mut [u8])) -> usize;

    /// Receives frames that have come on `port`, at most a burst, each with the time at which it was taken. Returns how
    /// many.
    fn receive(&mut self, port: usize, each: impl FnMut(&[u8], u64)) -> usize;
}
