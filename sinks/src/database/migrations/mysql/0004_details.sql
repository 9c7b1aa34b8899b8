-- What was wrong with a record in particular: `reason` is the same for all records with the same mistake.
-- A migration that was cut short is run again, and MySQL has no ADD COLUMN IF NOT EXISTS.
SET @is_missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'dead_letters' AND column_name = 'detail');
SET @add_detail = IF(@is_missing, 'ALTER TABLE dead_letters ADD COLUMN detail MEDIUMTEXT', 'DO 0');
PREPARE add_detail FROM @add_detail;
EXECUTE add_detail;
DEALLOCATE PREPARE add_detail;
