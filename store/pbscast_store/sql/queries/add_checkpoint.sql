-- $1 site, $2 number, $3 position, $4 digest, $5 logged, $6 chained_after, $7 signed (microseconds), $8 key id, $9 signature
INSERT INTO pbscast_log.checkpoint (site, number, position, digest, logged, chained_after, signed, key_id, signature)
VALUES (
    $1, $2, $3, $4, timestamptz 'epoch' + $5::bigint * interval '1 microsecond', $6,
    timestamptz 'epoch' + $7::bigint * interval '1 microsecond', $8, $9
)
ON CONFLICT DO NOTHING
RETURNING true;
