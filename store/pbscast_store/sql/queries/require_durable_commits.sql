-- An append that has returned must survive a crash: its positions may already be published.
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
