// The stream document: a small JSON text at any HTTP server that says where a stream is now, since
// this API has no rooms and a rebuilt publisher has a new session. See docs/stream-url.md.
// Bound to the worker.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/client.h"
#include "negotiation/backoff.h"
#include "util/worker.h"
#include "wire/types.h"

namespace cfr {

struct StreamSettings {
  std::string url;    // "" = none
  std::string token;  // bearer; may be empty
};

// Keeps the document at its newest state: PUT, repeated until it is there; DELETE at the end.
class StreamPublisher {
 public:
  // `failed`: refused for good (401, 403, other 4xx); `retrying`: cannot be reached, said once per
  // outage.
  StreamPublisher(Worker& worker, StreamSettings settings, HttpSend send,
                  std::function<void(const Error&, bool retrying)> failed);
  void set(const StreamDocument& document);
  // The publisher's session is gone for now: nothing is sent until the next set().
  void hold();
  // The network has changed: what is under way may lead nowhere, what waits need not.
  void hurry();
  // Deletes the document, once, if it was ever put. The caller bounds the time.
  void remove(std::function<void()> done);

 private:
  void put();

  Worker& worker_;
  StreamSettings settings_;
  HttpSend send_;
  std::function<void(const Error&, bool)> failed_;
  std::optional<StreamDocument> wanted_, there_;
  bool put_once_ = false, warned_ = false;
  std::unique_ptr<HttpCall> call_;
  std::optional<StreamDocument> in_flight_;
  Backoff backoff_;
  Timer timer_;
};

// Follows the document: long poll where the server supports it (RFC 7240 `Prefer: wait`), else
// polling with If-None-Match.
class StreamFollower {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_stream(const StreamDocument& document) = 0;
    virtual void on_stream_ended() = 0;    // 410: it is gone for good
    virtual void on_stream_missing() = 0;  // 404: not there now; said once
    virtual void on_stream_failed(const Error& error, bool retrying) = 0;
  };
  StreamFollower(Worker& worker, StreamSettings settings, HttpSend send, Listener& listener);
  // Something points to a change, or to a question that waits on a dead connection: asks again. Not
  // from within a Listener call.
  void hurry();
  // Asks no more.
  void stop();

 private:
  void ask();
  void on_reply(Result<HttpReply> reply);
  void ask_in(unsigned delay_ms);

  Worker& worker_;
  StreamSettings settings_;
  HttpSend send_;
  Listener& listener_;
  std::unique_ptr<HttpCall> call_;
  std::string etag_;
  std::optional<StreamDocument> seen_;
  bool missing_said_ = false, warned_ = false, seen_once_ = false;
  int64_t asked_at_ = 0;
  Backoff backoff_;
  Timer timer_;
};

}  // namespace cfr
