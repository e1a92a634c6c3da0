#include "session/stream.h"

#include <algorithm>

#include "wire/json.h"

namespace cfr {

namespace {

constexpr unsigned kWaitS = 25;         // asked of the server
constexpr unsigned kTimeoutMs = 10000;  // beyond it
constexpr unsigned kPollMs = 1000;      // of a server that does not wait
constexpr BackoffSettings kBackoff{250, 5000};
constexpr std::size_t kMaxDocumentBytes = 64 * 1024;

std::string header(const HttpReply& reply, const char* name) {
  for (const auto& [key, value] : reply.headers)
    if (key == name) return value;
  return "";
}

HttpRequest stream_request(const StreamSettings& settings, const char* method) {
  HttpRequest request;
  request.method = method;
  request.url = settings.url;
  request.bearer_token = settings.token;
  request.timeout_ms = kTimeoutMs;
  request.max_reply_bytes = kMaxDocumentBytes;
  return request;
}

// Errors that another attempt may cure.
bool passing(const Error& error) {
  return error.kind == ErrorKind::unreachable || error.kind == ErrorKind::timeout ||
         error.kind == ErrorKind::server || error.kind == ErrorKind::busy;
}

}  // namespace

StreamPublisher::StreamPublisher(Worker& worker, StreamSettings settings, HttpSend send,
                                 std::function<void(const Error&, bool)> failed)
    : worker_(worker),
      settings_(std::move(settings)),
      send_(std::move(send)),
      failed_(std::move(failed)),
      backoff_(kBackoff, uint64_t(g_random_int())) {}

void StreamPublisher::set(const StreamDocument& document) {
  wanted_ = document;
  put();
}

void StreamPublisher::hold() {
  wanted_.reset();
}

void StreamPublisher::hurry() {
  if (!call_ && !timer_.armed()) return;
  call_.reset();
  put();
}

void StreamPublisher::put() {
  if (call_ || !wanted_ || wanted_ == there_) return;
  timer_.cancel();
  HttpRequest request = stream_request(settings_, "PUT");
  request.body = json::write(*wanted_);
  in_flight_ = wanted_;
  call_ = send_(std::move(request), [this](Result<HttpReply> reply) {
    auto finished = std::move(call_);  // outlives this callback
    if (reply && reply->status / 100 == 2) {
      there_ = in_flight_;
      put_once_ = true;
      warned_ = false;
      backoff_.reset();
      return put();  // it may have changed meanwhile
    }
    Error error =
        reply ? error_from_reply(*reply, "publishing the stream document") : reply.error();
    bool again = passing(error) || (put_once_ && error.kind != ErrorKind::unauthorized);
    if (!again) return failed_(error, false);
    if (!std::exchange(warned_, true)) failed_(error, true);
    timer_.start(worker_, backoff_.next_ms(error.retry_after_ms), [this] { put(); });
  });
}

void StreamPublisher::remove(std::function<void()> done) {
  timer_.cancel();
  call_.reset();
  wanted_.reset();
  if (!put_once_ && !in_flight_) return done();
  call_ = send_(stream_request(settings_, "DELETE"), [done](Result<HttpReply>) { done(); });
}

StreamFollower::StreamFollower(Worker& worker, StreamSettings settings, HttpSend send,
                               Listener& listener)
    : worker_(worker),
      settings_(std::move(settings)),
      send_(std::move(send)),
      listener_(listener),
      backoff_(kBackoff, uint64_t(g_random_int())) {
  ask_in(0);
}

void StreamFollower::ask_in(unsigned delay_ms) {
  timer_.start(worker_, delay_ms, [this] { ask(); });
}

void StreamFollower::hurry() {
  if (g_get_monotonic_time() - asked_at_ < kPollMs * 1000) return;
  call_.reset();
  ask_in(0);
}

void StreamFollower::stop() {
  call_.reset();
  timer_.cancel();
}

void StreamFollower::ask() {
  HttpRequest request = stream_request(settings_, "GET");
  request.headers.emplace_back("Accept", "application/json");
  if (!etag_.empty() || missing_said_) {
    if (!etag_.empty()) request.headers.emplace_back("If-None-Match", etag_);
    request.headers.emplace_back("Prefer", "wait=" + std::to_string(kWaitS));
    request.timeout_ms += kWaitS * 1000;
  }
  asked_at_ = g_get_monotonic_time();
  call_ = send_(std::move(request), [this](Result<HttpReply> reply) {
    auto finished = std::move(call_);
    on_reply(std::move(reply));
  });
}

void StreamFollower::on_reply(Result<HttpReply> reply) {
  unsigned took_ms = unsigned((g_get_monotonic_time() - asked_at_) / 1000);
  unsigned next_ms = took_ms >= kPollMs ? 0 : kPollMs;
  Error error;
  if (!reply) {
    error = reply.error();
  } else if (reply->status == 304) {
    warned_ = false;
    backoff_.reset();
    return ask_in(next_ms);
  } else if (reply->status == 404 || reply->status == 410) {
    warned_ = false;
    backoff_.reset();
    etag_.clear();
    bool gone = reply->status == 410 && seen_.has_value();
    bool say = !std::exchange(missing_said_, true);
    if (gone) seen_.reset();
    // Asked again at once where the server holds the question until the document appears.
    ask_in(next_ms);
    if (gone)
      listener_.on_stream_ended();
    else if (say)
      listener_.on_stream_missing();
    return;
  } else if (reply->status == 200) {
    auto document = json::read_stream_document(reply->body);
    if (document) {
      warned_ = false;
      missing_said_ = false;
      backoff_.reset();
      etag_ = header(*reply, "etag");
      bool changed = seen_ != *document;
      seen_ = *document;
      seen_once_ = true;
      ask_in(changed && !etag_.empty() ? 0 : next_ms);
      if (changed) listener_.on_stream(*document);
      return;
    }
    error = document.error();
    error.message = "The stream document is not valid: " + error.message;
  } else {
    error = error_from_reply(*reply, "reading the stream document");
  }
  // A malformed document may be mended, and a server that has had it is likely to have it again; a
  // refused token is final.
  bool again = passing(error) || error.kind == ErrorKind::protocol ||
               (seen_once_ && error.kind != ErrorKind::unauthorized);
  if (again) ask_in(backoff_.next_ms(error.retry_after_ms));
  if (!again || !std::exchange(warned_, true)) listener_.on_stream_failed(error, again);
}

}  // namespace cfr
