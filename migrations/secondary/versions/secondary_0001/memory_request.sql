-- Questions to the replayer's memory. Whoever asks sees and changes nothing but rows of its own, through views:
-- current_user of a view is who reads it, so no role can ask, or read an answer, under another's name.
create unlogged table logship.memory_request (
  replica text not null references logship.replica (name) on delete cascade,
  asker text not null default current_user,
  slot integer not null,
  token text not null,
  question text not null,
  asked_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null,
  pid integer,
  head text,
  constraint memory_request_pkey primary key (replica, asker, slot),
  constraint memory_request_token_key unique (token),
  constraint memory_request_slot check (slot between 0 and 15),
  constraint memory_request_token check (octet_length(token) between 16 and 64),
  constraint memory_request_question check (octet_length(question) <= 2097152),
  constraint memory_request_expires check (expires_at <= asked_at + interval '1 day')
);
comment on table logship.memory_request is
  'what a client asks the replayer''s memory, and what is said of the answer; over at expires_at';

create unlogged table logship.memory_reply (
  token text not null references logship.memory_request (token) on delete cascade,
  part integer not null,
  content bytea not null,
  constraint memory_reply_pkey primary key (token, part)
);
alter table logship.memory_reply alter column content set storage external;
comment on table logship.memory_reply is 'rows that answer a question to memory: parts of an Arrow stream';

create view logship.my_memory_request with (security_barrier) as
select q.replica, q.asker, q.slot, q.token, q.question, q.expires_at, q.pid, q.head
  from logship.memory_request q
 where q.asker = current_user
  with local check option;
comment on view logship.my_memory_request is
  'questions of the present role to the replayer''s memory; `logship query` and logship.memory put them here';
comment on column logship.my_memory_request.replica is 'name of the replica';
comment on column logship.my_memory_request.asker is 'who asks: the present role, whose rights count';
comment on column logship.my_memory_request.slot is 'place of the question among the role''s sixteen';
comment on column logship.my_memory_request.token is 'names the question';
comment on column logship.my_memory_request.question is 'the question, as JSON; its form belongs to logship and may change';
comment on column logship.my_memory_request.expires_at is 'when it is forgotten, answered or not';
comment on column logship.my_memory_request.pid is 'session of the replayer that answers; NULL: none does yet';
comment on column logship.my_memory_request.head is 'what is said of the answer, as JSON; NULL: there is none yet';

create view logship.my_memory_reply with (security_barrier) as
select r.token, r.part, r.content
  from logship.memory_reply r
  join logship.memory_request q on q.token = r.token
 where q.asker = current_user;
comment on view logship.my_memory_reply is 'answers to questions of the present role';
comment on column logship.my_memory_reply.token is 'names the question';
comment on column logship.my_memory_reply.part is 'place of the part in the stream, from 0';
comment on column logship.my_memory_reply.content is 'a part of an Arrow stream';
