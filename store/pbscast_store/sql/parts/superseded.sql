CASE
    WHEN l.ended IS NOT NULL AND l.reason IS NULL THEN (
        SELECT later.first_position
        FROM pbscast_log.lives AS later
        WHERE later.site = l.site AND later.kind = l.kind AND later.id = l.id AND later.incarnation = l.incarnation + 1
    )
END
