-- What was known of each watched table when it was last looked at; see hub.structure. NULL: it was not looked at yet; '{}': it was gone.
ALTER TABLE hub.watched ADD COLUMN structure jsonb;
