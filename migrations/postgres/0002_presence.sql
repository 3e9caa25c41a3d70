-- Whether somebody was there as far as is stored: who was when the server ended is on the way back when it starts.
ALTER TABLE users ADD COLUMN is_online BIGINT NOT NULL DEFAULT 0;
CREATE INDEX users_online ON users (is_online) WHERE is_online = 1;
