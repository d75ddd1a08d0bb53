INSERT INTO users (name) VALUES ('cid');
