//! Which instructions the processor has for look-ups: asked once, as asking takes longer than to look up an address.

use std::sync::LazyLock;

/// From those that have least to those that have most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Processor {
    /// Less than the others.
    Baseline,
    /// POPCNT, BMI1, BMI2 and AVX2.
    Avx2,
    /// Also AVX-512 F, BW and VL.
    Avx512,
    /// Also AVX-512 VPOPCNTDQ.
    Avx512Popcnt,
}

impl Processor {
    /// The one that this runs on.
    #[inline]
    pub(super) fn this() -> Self {
        static THIS: LazyLock<Processor> = LazyLock::new(Processor::ask);
        *THIS
    }

    fn ask() -> Self {
        let avx2 = is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx2");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        match (avx2, avx512) {
            (_, true) if is_x86_feature_detected!("avx512vpopcntdq") => Self::Avx512Popcnt,
            (_, true) => Self::Avx512,
            (true, _) => Self::Avx2,
            _ => Self::Baseline,
        }
    }
}
