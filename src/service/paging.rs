//! The pages of a list.

const DEFAULT_SIZE: i32 = 20;
const LARGEST_SIZE: i32 = 500;

/// A page of a list: which, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// Counted from 1.
    pub page: i32,
    /// In rows.
    pub size: i32,
}

/// The first page, of the usual size.
impl Default for Paging {
    fn default() -> Self {
        Self::new(1, 0)
    }
}

impl Paging {
    /// `page` from 1, `size` from 1 to 500; what is outside is 1 and 20.
    pub fn new(page: i32, size: i32) -> Self {
        Self { page: page.max(1), size: if (1..=LARGEST_SIZE).contains(&size) { size } else { DEFAULT_SIZE } }
    }

    /// How many rows are on the pages before.
    pub fn offset(self) -> i64 {
        (i64::from(self.page) - 1) * i64::from(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_has_bounds() {
        let of = |page, size| {
            let Paging { page, size } = Paging::new(page, size);
            (page, size)
        };
        assert_eq!(of(-3, -1), (1, 20));
        assert_eq!(of(0, 0), (1, 20));
        assert_eq!(of(7, 500), (7, 500));
        assert_eq!(of(7, 501), (7, 20));
        assert_eq!(Paging::new(i32::MAX, 500).offset(), (i64::from(i32::MAX) - 1) * 500);
    }
}
