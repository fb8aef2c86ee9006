//! Clients of the API that misbehave.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::bench::Bench;
use crate::hostile::floods::Random;
use crate::suite::SOON;
use crate::wait;

/// Clients that connect and say nothing.
const IDLE: usize = 64;

/// What is no request, a line without end, and a crowd that says nothing: each is answered by an error or closed, and
/// the next client is served.
pub fn garbage(bench: &mut Bench) {
    let mut random = Random::new(0x00a9);
    let noise: Vec<u8> = (0..4096).map(|_| random.below(256) as u8).collect();
    let endless = vec![b'{'; 8 << 20];
    let lines: [&[u8]; 6] =
        [b"\n", b"{}\n", b"\"Nonsense\"\n", b"{\"Routes\":{\"vrf\":7}}\n", &noise, &endless];
    for line in lines {
        let mut client = connect(bench);
        // It may close before it has read all.
        let _ = client.write_all(line);
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.take(1 << 20).read_to_end(&mut answer);
        assert!(answer.len() < 100_000, "{} bytes of answer to nonsense", answer.len());
    }
    let crowd: Vec<_> = (0..IDLE).map(|_| connect(bench)).collect();
    drop(crowd);
    wait::until_true(SOON, "the API to answer again", || bench.router().try_show("ports").is_some());
    bench.assert_unharmed();
}

#[track_caller]
fn connect(bench: &Bench) -> UnixStream {
    let client = UnixStream::connect(bench.router().socket()).unwrap_or_else(|e| panic!("API socket: {e}"));
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    client.set_write_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    client
}
