// One session's way to its client: a NiceAgent in ICE-lite mode, DTLS and SRTP by GStreamer's
// elements. Bound to the thread of the main context given; its callbacks run there, in batches.
#pragma once

#include <glib.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sfu/packet.h"
#include "util/result.h"

namespace cfr::sfu {

// What our descriptions say of the transport.
struct LocalTransport {
  std::string ufrag, pwd;
  std::string fingerprint;  // sha-256, upper-case hex with colons
  std::string address;
  unsigned port = 0;
};

struct RemoteTransport {
  std::string ufrag, pwd;
  std::string fingerprint_hash, fingerprint;  // e.g. sha-256, AB:CD...
  bool client_is_passive = false;             // then we are the DTLS client
};

class Transport {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_transport_connected() = 0;
    // The client closed DTLS, or its certificate is not the announced one.
    virtual void on_transport_closed(const std::string& why) = 0;
    virtual void on_transport_packet(Bytes packet, bool rtcp, int64_t arrival_us) = 0;
  };

  static Result<std::unique_ptr<Transport>> open(GMainContext* context, const std::string& address,
                                                 Listener& listener);
  ~Transport();

  const LocalTransport& local() const;
  void set_remote(const RemoteTransport& remote);
  void send(Bytes packet, bool rtcp);
  // Nothing comes in or goes out any more, and nobody is told: for tests of vanished peers.
  void kill();

 private:
  struct State;
  explicit Transport(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace cfr::sfu
