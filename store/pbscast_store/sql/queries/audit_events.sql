-- $1 site, $2 after, $3 up to; for COPY: what the canonical form of an event is made of, in its order, and the digest
SELECT
    position, pbscast_log.microseconds("time"), pbscast_log.microseconds(logged), kind, id, incarnation,
    revision, event, provenance, coalesce('=' || owner, ''), payload, encode(digest, 'hex')
FROM pbscast_log.event
WHERE site = $1 AND position > $2 AND position <= $3
ORDER BY position
