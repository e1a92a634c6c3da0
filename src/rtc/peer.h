// webrtcbin as a handful of verbs, without policy. Bound to the worker: every call and every
// callback happens there, except where said. Holds a reference on the webrtcbin, which the element
// owns as a child of its bin and has brought to READY or higher.
#pragma once

#include <gst/gst.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "util/gref.h"
#include "util/gst_ref.h"
#include "util/result.h"
#include "util/worker.h"

namespace cfr {

struct PeerSettings {
  std::string stun_server;                // stun://host:port or ""
  std::vector<std::string> turn_servers;  // turn(s)://user:pass@host:port?transport=, encoded
  bool relay_only = false;
  bool loopback = false;      // the SFU is on this machine: offer 127.0.0.1
  unsigned latency_ms = 200;  // jitter buffers
};

enum class PeerConnection { connecting, connected, failed };

class Peer {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_peer_connection(PeerConnection state) = 0;
    // The media of section `mid` arrives on `pad`. The pad is blocked until resume(pad).
    virtual void on_peer_pad(const std::string& mid, GstPad* pad) = 0;
  };

  Peer(Worker& worker, GstElement* webrtcbin, PeerSettings settings, Listener& listener);
  ~Peer();  // as close()

  // A track to send. `caps`: application/x-rtp with media, encoding-name, clock-rate, payload,
  // ssrc and fmtp fields; what the chain will send.
  struct SendTrack {
    uint32_t id;
    std::string name;  // goes into msid
    gref<GstCaps> caps;
  };
  struct Offer {
    std::string sdp;                       // as it goes on the wire
    std::map<uint32_t, std::string> mids;  // of all tracks sent
  };
  template <class T>
  using Callback = std::function<void(Result<T>)>;

  // Adds sections for tracks that have none yet, creates and sets the offer.
  void create_offer(const std::vector<SendTrack>& tracks, Callback<Offer> done);
  // What the description says no to: sections of an answer that the SFU rejected, or will not
  // receive; sections of an offer of which we can receive no codec.
  struct RemoteResult {
    std::vector<std::string> rejected_mids;
  };
  void set_remote(bool is_offer, const std::string& sdp, Callback<RemoteResult> done);
  // Creates and sets the answer; gives the text for the wire.
  void create_answer(Callback<std::string> done);
  // The section was closed by force: from now on it is `inactive` on the wire.
  void close_section(const std::string& mid);
  // A track plays in this section of the SFU's. If the section was closed before, its media is
  // given to on_peer_pad anew: the SFU may use it again without an offer, and with the same SSRC.
  void open_section(const std::string& mid);

  // webrtcbin's sink pad of a sent track; null before the answer was set. Transfer none.
  GstPad* sink_pad(uint32_t track);
  // Lets a pad given to on_peer_pad flow; its packets are dropped while it is not linked.
  void resume(GstPad* pad);

  // Packets that have arrived over the connection, padding and retransmissions included; for
  // watchdogs. Monotonic, cheap.
  struct Received {
    uint64_t rtp = 0;
    uint64_t rtcp = 0;
  };
  Received received() const;

  // The pair of addresses in use. Error peer while there is none.
  struct CandidatePair {
    std::string local_type, local_address;  // host, srflx, prflx, relay; address:port
    std::string remote_type, remote_address;
    std::string protocol;  // udp, tcp; of a relay: how the TURN server is reached, if known
  };
  void candidate_pair(Callback<CandidatePair> done);

  // No callback after this. Disconnects from webrtcbin; the element disposes of it.
  void close();

  struct State;  // the inside

 private:
  std::shared_ptr<State> state_;
};

// Sets a webrtcbin to NULL, once its Peer was closed, and frees what 1.22 would keep for good. For
// the thread that owns the element; waits for webrtcbin's own thread.
void dispose_webrtcbin(GstElement* webrtcbin);

// Starts, in a thread of its own, what DTLS needs once per process (the certificate, ~0.2 s).
// Returns at once; any thread; cheap when called again.
void warm_up_dtls();

}  // namespace cfr
