//! The API's rules for dinosaurs. What is committed past them, by psql, is delivered all the same.

use crate::error::Error;

const SPECIES_BYTES: usize = 255;
const ID_BYTES: usize = 1024;
const DEFAULT_SIZE: i32 = 20;
const LARGEST_SIZE: i32 = 500;

/// A page of a list: which, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    pub(super) page: i32,
    pub(super) size: i32,
}

impl Paging {
    /// `page` from 1, `size` from 1 to 500; what is outside is 1 and 20.
    pub(super) fn new(page: i32, size: i32) -> Self {
        Self { page: page.max(1), size: if (1..=LARGEST_SIZE).contains(&size) { size } else { DEFAULT_SIZE } }
    }

    pub(super) fn offset(self) -> i64 {
        (i64::from(self.page) - 1) * i64::from(self.size)
    }
}

/// An id as a request names it.
pub(super) fn id(id: &str) -> Result<&str, Error> {
    if id.is_empty() {
        return Err(Error::invalid("id", "is required"));
    }
    if id.len() > ID_BYTES || id.contains('\0') {
        return Err(Error::invalid("id", format!("must have at most {ID_BYTES} bytes and no NUL")));
    }
    Ok(id)
}

/// The species of a dinosaur to create.
pub(super) fn new_species(species: &str) -> Result<&str, Error> {
    if species.is_empty() {
        return Err(Error::invalid("species", "is required"));
    }
    self::species(species)
}

/// The species of a dinosaur to update; may be empty.
pub(super) fn species(species: &str) -> Result<&str, Error> {
    if species.len() > SPECIES_BYTES {
        return Err(Error::invalid(
            "species",
            format!("must have at most {SPECIES_BYTES} bytes, has {}", species.len()),
        ));
    }
    if species.contains('\0') {
        return Err(Error::invalid("species", "must not contain NUL"));
    }
    Ok(species)
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

    #[test]
    fn species_has_bounds() {
        assert!(new_species("").is_err());
        assert!(species("").is_ok());
        assert!(new_species(&"x".repeat(255)).is_ok());
        assert!(new_species(&"x".repeat(256)).is_err());
        assert!(new_species("a\0b").is_err());
        // 254 bytes and the first half of a character would be 255: bytes count, not characters.
        assert!(new_species(&format!("{}é", "x".repeat(254))).is_err());
        assert!(new_species(&format!("{}é", "x".repeat(253))).is_ok());
    }
}
