-- The same tables as on SQLite. Times are integer milliseconds since the Unix epoch, truth values 0 or 1.

-- Ids are taken inside the transaction that holds the conversation's row, so they grow with its events.
CREATE SEQUENCE conversation_ids;
CREATE SEQUENCE message_ids;
CREATE SEQUENCE attachment_ids;
CREATE SEQUENCE notification_ids;

-- Keys that all servers share and restarts keep.
CREATE TABLE server_keys (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    first_name TEXT NOT NULL DEFAULT '',
    last_name TEXT NOT NULL DEFAULT '',
    username TEXT,
    email TEXT,
    avatar_url TEXT,
    is_managed BIGINT NOT NULL DEFAULT 0,
    last_event_id BIGINT NOT NULL DEFAULT 0,
    last_seen_at BIGINT,
    tokens_valid_after BIGINT,
    erased_at BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE conversations (
    id BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    direct_key TEXT UNIQUE,
    title TEXT,
    last_event_id BIGINT NOT NULL DEFAULT 0,
    last_message_id BIGINT NOT NULL DEFAULT 0,
    notified_message_id BIGINT NOT NULL DEFAULT 0,
    -- How far a round of notifications has come that takes several transactions: up to which message, to which user.
    notifying_up_to BIGINT NOT NULL DEFAULT 0,
    notifying_user_id BIGINT NOT NULL DEFAULT 0,
    active_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
-- What the notifier has yet to do, after a crash.
CREATE INDEX conversations_to_notify ON conversations (id) WHERE notified_message_id < last_message_id;

CREATE TABLE participants (
    conversation_id BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,
    read_up_to BIGINT NOT NULL DEFAULT 0,
    read_at BIGINT,
    delivered_up_to BIGINT NOT NULL DEFAULT 0,
    delivered_at BIGINT,
    cleared_up_to BIGINT NOT NULL DEFAULT 0,
    cleared_at BIGINT,
    archived_at BIGINT,
    muted_until BIGINT,
    joined_at BIGINT NOT NULL,
    joined_event_id BIGINT NOT NULL DEFAULT 0,
    left_at BIGINT,
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX participants_of_user ON participants (user_id, conversation_id) WHERE left_at IS NULL;
CREATE INDEX participants_by_joining ON participants (conversation_id, joined_at, user_id) WHERE left_at IS NULL;

CREATE TABLE messages (
    id BIGINT PRIMARY KEY,
    conversation_id BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    event_id BIGINT NOT NULL,
    sender_id BIGINT NOT NULL REFERENCES users (id),
    client_id TEXT,
    fingerprint BIGINT NOT NULL,
    content TEXT NOT NULL,
    message_type TEXT NOT NULL,
    reply_to_id BIGINT,
    data TEXT,
    created_at BIGINT NOT NULL,
    edited_at BIGINT,
    deleted_at BIGINT,
    -- The event that told of the deletion; an erasure has none.
    deleted_event_id BIGINT
);
CREATE INDEX messages_of_conversation ON messages (conversation_id, id);
CREATE UNIQUE INDEX messages_by_client_id ON messages (conversation_id, sender_id, client_id) WHERE client_id IS NOT NULL;
CREATE INDEX messages_of_sender ON messages (sender_id, id);
CREATE INDEX messages_replying ON messages (reply_to_id) WHERE reply_to_id IS NOT NULL;

CREATE TABLE message_revisions (
    message_id BIGINT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    content TEXT NOT NULL,
    replaced_at BIGINT NOT NULL,
    PRIMARY KEY (message_id, number)
);

CREATE TABLE reactions (
    message_id BIGINT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL REFERENCES users (id),
    reaction TEXT NOT NULL,
    emoji TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (message_id, user_id)
);

CREATE TABLE attachments (
    id BIGINT PRIMARY KEY,
    uploader_id BIGINT NOT NULL REFERENCES users (id),
    message_id BIGINT REFERENCES messages (id) ON DELETE CASCADE,
    position BIGINT NOT NULL DEFAULT 0,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    width BIGINT,
    height BIGINT,
    file_key TEXT NOT NULL,
    thumbnail_key TEXT,
    thumbnail_type TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX attachments_of_message ON attachments (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX attachments_unlinked ON attachments (created_at) WHERE message_id IS NULL;
CREATE INDEX attachments_of_uploader ON attachments (uploader_id);

-- Files whose bytes are still to be deleted: their row is gone, or, until a time, not yet written.
CREATE TABLE files_to_delete (
    file_key TEXT PRIMARY KEY,
    not_before BIGINT NOT NULL DEFAULT 0
);

-- The log of each topic: kind 'c' is a conversation, 'u' a user's notifications.
CREATE TABLE events (
    topic_kind TEXT NOT NULL,
    topic_id BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    actor_id BIGINT,
    subject_id BIGINT,
    data TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (topic_kind, topic_id, event_id)
);
CREATE INDEX events_by_age ON events (created_at);

-- Commands that are no messages, so that a retry finds its first answer.
CREATE TABLE client_ids (
    topic_kind TEXT NOT NULL,
    topic_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    client_id TEXT NOT NULL,
    fingerprint BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject_id BIGINT,
    event_id BIGINT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (topic_kind, topic_id, user_id, client_id)
);
CREATE INDEX client_ids_by_age ON client_ids (created_at);

-- First answers of REST requests that carried an Idempotency-Key; caller 0 is the platform.
CREATE TABLE idempotency_keys (
    caller_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BIGINT NOT NULL,
    status BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE notifications (
    id BIGINT PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id),
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    notification_type TEXT NOT NULL,
    data TEXT NOT NULL,
    action_url TEXT,
    is_read BIGINT NOT NULL DEFAULT 0,
    conversation_id BIGINT,
    message_id BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX notifications_of_user ON notifications (user_id, id);
CREATE INDEX notifications_unread ON notifications (user_id, id) WHERE is_read = 0;
-- While it is unread, there is one notification for a conversation's messages.
CREATE UNIQUE INDEX notifications_of_conversation ON notifications (conversation_id, user_id)
    WHERE conversation_id IS NOT NULL AND is_read = 0;

-- The messages that an unread `message` notification counts.
CREATE TABLE notification_messages (
    notification_id BIGINT NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    message_id BIGINT NOT NULL,
    PRIMARY KEY (notification_id, message_id)
);
CREATE INDEX notification_messages_by_message ON notification_messages (message_id);

-- Notifications to all users that are still being handed out, with the last user who has theirs.
CREATE TABLE broadcasts (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    notification_type TEXT NOT NULL,
    data TEXT NOT NULL,
    action_url TEXT,
    user_id BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

-- Words of messages as the product's own tokenizer writes them, by message id.
CREATE TABLE message_search (
    message_id BIGINT PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    words TSVECTOR NOT NULL
);
CREATE INDEX message_search_words ON message_search USING GIN (words);
