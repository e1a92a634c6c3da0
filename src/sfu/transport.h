// One session's way to its client: a NiceAgent in ICE-lite mode, DTLS and SRTP by GStreamer's
// elements. Bound to the thread of the main context given, on which all of it runs: a packet goes
// from the socket through decryption to the listener, and from send() through encryption to the
// socket, without a queue or another thread. (Only DTLS's own messages come from a thread of
// theirs.)
#pragma once

#include <glib.h>

#include <cstdint>
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
  // May destroy the Transport from within.
  class Listener {
   public:
    virtual ~Listener() = default;
    // Also when a client that had fallen silent is heard again.
    virtual void on_transport_connected() = 0;
    // The client closed DTLS, its certificate is not the announced one, or it has been silent for
    // kSilence.
    virtual void on_transport_closed(const std::string& why) = 0;
    // The bytes are valid during the call.
    virtual void on_transport_packet(Bytes packet, bool rtcp, int64_t arrival_us) = 0;
    // Something came from the network, be it a STUN check; at most four times a second.
    virtual void on_transport_heard(int64_t now_us) {}
  };

  // RFC 7675: consent that was not renewed for 30 s has ended.
  static constexpr int64_t kSilence_us = 30 * 1000 * 1000;

  // Makes the certificate of this process, which takes a while. Optional; any thread.
  static void prepare();
  // `address`: the local address to listen at; 0.0.0.0 = all but loopback.
  static Result<std::unique_ptr<Transport>> open(GMainContext* context, const std::string& address,
                                                 Listener& listener);
  ~Transport();

  const LocalTransport& local() const;
  // Once. What the client sends may come before it: ICE is answered and DTLS begins at once, but
  // nothing passes until the certificate has been compared with the fingerprint.
  void set_remote(const RemoteTransport& remote);
  // The client may replace its connection by another with the same credentials and certificate: for
  // five seconds the end of DTLS is not the end.
  void expect_another();
  void send(Bytes packet, bool rtcp);

  // Faults for tests: what arrives is thrown away unseen (STUN and all), and nothing is sent.
  void set_blocked(bool blocked);
  // The same for ever, and nobody is told: a peer that vanished.
  void kill();
  void set_silence_us(int64_t silence_us);

 private:
  struct State;
  explicit Transport(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace cfr::sfu
