DROP TABLE plugin_messages;
DROP TABLE plugin_hook_secrets;
