-- What was wrong with a record in particular: `reason` is the same for all records with the same mistake.
ALTER TABLE dead_letters ADD COLUMN detail TEXT;
