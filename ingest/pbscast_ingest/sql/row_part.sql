-- One array of a journal row, cut: its first %(items)s items in their order, and of each that is longer than %(length)s its
-- beginning, with a digest of the text after its flags. A character is not cut in two, where it is UTF-8.
SELECT ARRAY(
    SELECT
        CASE
            WHEN octet_length(item) > %(length)s
                THEN regexp_replace(left(item, %(length)s), '[\u00C0-\u00FF][\u0080-\u00BF]*$', '')
                    || '...' || md5(substr(item, strpos(item, '.') + 1))
            ELSE item
        END
    FROM (
        SELECT
            unnest(CASE %(part)s
                WHEN 'columns' THEN columns
                WHEN 'changed' THEN changed
                WHEN 'before' THEN before
                WHEN 'removed' THEN removed
                ELSE context
            END) AS item
        FROM pbscast.journal
        WHERE seq = %(seq)s
        LIMIT %(items)s
    ) AS first
) AS part
