-- An append that has returned must survive a crash: its positions may already be published. And the loss of its server: if
-- there is a standby that commits wait for, this one waits too.
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
