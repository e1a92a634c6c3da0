// Finds out which tracks the followed publishers have, by asking GET /sessions/{id} politely: this
// API pushes no news. Bound to the worker.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "api/client.h"
#include "util/worker.h"
#include "wire/types.h"

namespace cfr {

// Tracks of one publisher session; no names = all that it publishes.
struct Publication {
  std::string session_id;
  std::vector<std::string> names;
  bool operator==(const Publication&) const = default;
};

class Discovery {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_track_found(const std::string& session_id, const std::string& name) = 0;
    // Closed by its publisher, or no longer followed.
    virtual void on_track_gone(const std::string& session_id, const std::string& name) = 0;
    // The publisher's session does not exist (any more, or yet); asked again.
    virtual void on_publisher_missing(const std::string& session_id, const Error& error) = 0;
    // The API cannot be asked at the moment; it is asked again.
    virtual void on_discovery_trouble(const Error& error) = 0;
    virtual void on_discovery_answered() = 0;
    // Final: the credentials were refused.
    virtual void on_discovery_failed(Error error) = 0;
  };

  Discovery(Worker& worker, ApiClient& api, Listener& listener);

  // Replaces what is followed; tracks that are followed no longer are reported gone.
  void follow(std::vector<Publication> publications);
  // Media stopped: ask now instead of at the next poll.
  void ask_soon();
  // Asks no more, and reports nothing.
  void stop();

 private:
  struct Publisher {
    std::set<std::string> wanted;              // empty = all
    std::map<std::string, std::string> found;  // name -> mid, "" = not known yet
    bool seen_alive = false;
  };
  void ask();
  void on_state(const std::string& session_id, Result<SessionState> state);
  void schedule();

  Worker& worker_;
  ApiClient& api_;
  Listener& listener_;
  std::map<std::string, Publisher> publishers_;
  Timer timer_;
  unsigned outstanding_ = 0;
  unsigned interval_ms_;
  unsigned pause_ms_ = 0;    // asked for by the service
  unsigned generation_ = 0;  // replies to questions of an earlier follow() are ignored
};

}  // namespace cfr
