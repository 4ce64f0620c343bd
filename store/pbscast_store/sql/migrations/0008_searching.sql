-- What finds lives by more than their time: in the order in which a page tells them, of all objects of a kind or of one owner's.

CREATE INDEX life_first ON pbscast_log.life (site, kind, first_position);
CREATE INDEX life_owner ON pbscast_log.life (site, kind, owner, first_position);
CREATE INDEX object_living ON pbscast_log.object (site, kind, first_position) WHERE ended IS NULL;
