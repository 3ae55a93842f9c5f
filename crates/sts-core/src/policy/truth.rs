//! The three-valued logic of RFC 4511, section 4.5.1.7.

/// True, false, or Undefined: what is asked about is not there, or not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Truth {
    /// It does not hold.
    False,
    /// It holds.
    True,
    /// It cannot be said; this allows nothing, and neither does its negation.
    Undefined,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl Truth {
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, Self::True) => Self::True,
            (Self::Undefined, _) | (_, Self::Undefined) => Self::Undefined,
        }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::False, Self::False) => Self::False,
            (Self::Undefined, _) | (_, Self::Undefined) => Self::Undefined,
        }
    }

    pub(crate) fn negate(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::True => Self::False,
            Self::Undefined => Self::Undefined,
        }
    }
}
