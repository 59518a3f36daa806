//! The API's rules for dinosaurs. Rows committed without them, by psql, are delivered too.

use crate::error::Error;

const SPECIES_BYTES: usize = 255;
const ID_BYTES: usize = 1024;

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
