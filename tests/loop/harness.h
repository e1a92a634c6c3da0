// What the loop tests stand on: a local SFU in a process of its own, pipelines with a bus that is
// read until something is true, and probes on media. Times out by deadline, never by sleeping.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "util/gref.h"
#include "util/gst_ref.h"

namespace cfr::test {

// Milliseconds, stretched where a sanitizer slows everything (CFREALTIME_TIME_SCALE).
unsigned scaled(unsigned ms);

// Runs the main context of this thread until `done()` or the deadline; true if done.
bool wait_until(const std::function<bool()>& done, unsigned timeout_ms = 10000);

// Milliseconds since it was made, without those by which this machine, busy with other things, let
// a sleeping thread run too late.
class Stopwatch {
 public:
  Stopwatch();
  ~Stopwatch();
  unsigned ms() const;

 private:
  gint64 begin_us_;
  std::atomic<bool> done_{false};
  std::atomic<gint64> late_us_{0};
  std::thread sleeper_;
};

// One reply of a plain HTTP request, made on the calling thread.
struct Reply {
  int status = 0;
  std::string body;
};
Reply http(const std::string& method, const std::string& url, const std::string& body = "");

// cfrealtime-sfu, or what CFREALTIME_TEST_SFU names: it takes --address, --port and --app-id, and
// says in a line of its own where it listens.
class Sfu {
 public:
  explicit Sfu(std::vector<std::string> options = {}, const std::string& secret = "");
  ~Sfu();  // writes the request log for the validator first
  // Where SFUs run from now on: words in front of the command, and the address they listen on.
  static void place(std::vector<std::string> prefix, const std::string& address);
  const std::string& api_url() const { return api_url_; }  // http://127.0.0.1:PORT/v1
  std::string base_url() const;                            // http://127.0.0.1:PORT
  unsigned port() const { return port_; }
  GPid pid() const { return pid_; }
  std::string requests() const { return http("GET", base_url() + "/debug/requests").body; }
  std::string stats() const { return http("GET", base_url() + "/debug/stats").body; }
  // How many requests so far have this text in their log line, e.g. "tracks/close"; or since the
  // log, requests(), was so long.
  unsigned count(const std::string& text, std::size_t from = 0) const;
  void kill();     // at once, as a crash
  void restart();  // on the same port, with nothing remembered
  void restart(const std::string& secret);

 private:
  void start(unsigned port);
  void save_requests();
  void forget();
  std::string last_words() const;
  std::vector<std::string> options_;
  std::string secret_, api_url_;
  unsigned port_ = 0;
  GPid pid_ = 0;
  int out_ = -1;
  FILE* log_ = nullptr;
};

class Pipeline {
 public:
  // The environment names the SFU's API to both elements.
  Pipeline(const std::string& launch, const std::string& name = "pipeline");
  ~Pipeline();  // to NULL
  Pipeline(const Pipeline&) = delete;

  GstElement* get() const { return pipeline_.get(); }
  gref<GstElement> element(const char* name) const;
  void play();
  // To NULL; returns the milliseconds it took.
  unsigned stop();
  // Reads the bus until `done()`; errors are collected, not fatal.
  bool until(const std::function<bool()>& done, unsigned timeout_ms = 10000);
  bool until_error(unsigned timeout_ms = 10000) {
    return until([this] { return !errors.empty(); }, timeout_ms);
  }
  bool until_eos(unsigned timeout_ms = 10000) {
    return until([this] { return eos; }, timeout_ms);
  }
  std::string string_property(const char* element, const char* property) const;
  // connection-state of the element, by nick.
  std::string connection(const char* element) const;
  // The session of cfrealtimesink `name`; waits until a track of it is live. "" in time.
  std::string live_session(const char* name = "s", unsigned tracks = 1,
                           unsigned timeout_ms = 10000);

  struct Message {
    GQuark domain = 0;
    int code = 0;
    std::string text, debug;
    std::string details;  // serialised structure
  };
  std::vector<Message> errors, warnings;
  std::atomic<unsigned> tracks_live{0}, tracks_closed{0};
  std::vector<std::string> session_ids;  // by the element message
  std::vector<std::string> waiting;      // tracks, by the element message
  bool eos = false;

 private:
  void handle(GstMessage* message);
  gref<GstElement> pipeline_;
};

// connection-state of a sink or source, by nick.
std::string connection_of(GstElement* element);

// Open file descriptors and threads of this process.
unsigned count_fds();
unsigned count_threads();
unsigned resident_kib();

}  // namespace cfr::test
