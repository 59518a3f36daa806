//! The rows of a run: how they are named, and how they are deleted.

use crate::client::Link;
use crate::proto::rh_trex::v1::{
    DeleteDinosaurRequest, ListDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::{Code, Status};

const PREFIX: &str = "trex-bench/";
/// The largest page there is.
const PAGE: i32 = 500;
/// Deletions under way at a time.
const AT_A_TIME: usize = 16;

/// The rows whose species begins with this.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    prefix: String,
}

impl Rows {
    pub(super) fn of_this_run() -> Self {
        Self { prefix: format!("{PREFIX}{}/", uuid::Uuid::now_v7().simple()) }
    }

    pub(super) fn of_all_runs() -> Self {
        Self { prefix: PREFIX.to_owned() }
    }

    /// What a watch and a list ask for.
    pub(super) fn filter(&self) -> String {
        format!("species = \"{}*\"", self.prefix)
    }

    /// The species of a writer's n-th row.
    pub(super) fn species(&self, writer: u32, n: usize) -> String {
        format!("{}{writer}/{n}", self.prefix)
    }

    /// Which row a species names: the writer, and the number.
    pub(super) fn parse(&self, species: &str) -> Option<(usize, usize)> {
        let (writer, n) = species.strip_prefix(&self.prefix)?.split_once('/')?;
        Some((writer.parse().ok()?, n.parse().ok()?))
    }

    /// Deletes them and returns how many: they are found by name, so a row whose creation was not
    /// acknowledged goes too.
    pub(super) async fn delete(&self, channel: Link) -> Result<u64, Status> {
        let mut client = DinosaurServiceClient::new(channel.clone());
        let mut deleted = 0;
        loop {
            // Always the first page: what was on it is gone.
            let request =
                ListDinosaursRequest { page: 1, size: PAGE, filter: self.filter(), ..Default::default() };
            let ids: Vec<_> = client.list_dinosaurs(request).await?.into_inner().items;
            if ids.is_empty() {
                return Ok(deleted);
            }
            let count = ids.len() as u64;
            let each = ids.into_iter().filter_map(|item| item.metadata).map(|metadata| {
                let mut client = DinosaurServiceClient::new(channel.clone());
                async move {
                    match client.delete_dinosaur(DeleteDinosaurRequest { id: metadata.id }).await {
                        Err(status) if status.code() != Code::NotFound => Err(status),
                        _ => Ok(()),
                    }
                }
            });
            stream::iter(each).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
            deleted += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_species_names_a_row_of_its_own_run() {
        let (rows, others) = (Rows::of_this_run(), Rows::of_this_run());
        assert_eq!(rows.parse(&rows.species(3, 17)), Some((3, 17)));
        assert_eq!(rows.parse(&others.species(3, 17)), None);
        assert!(rows.species(3, 17).starts_with(&Rows::of_all_runs().prefix));
    }
}
