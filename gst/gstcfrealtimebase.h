// What cfrealtimesink and cfrealtimesrc share: connection properties, the life of the worker, the
// Session and webrtcbin, and how errors reach the bus.
#pragma once

#include <gst/gst.h>

#include <functional>
#include <memory>
#include <string>

#include "session/session.h"
#include "util/worker.h"

#define GST_TYPE_CF_REALTIME_BASE (gst_cf_realtime_base_get_type())
#define GST_CF_REALTIME_BASE(o) \
  (G_TYPE_CHECK_INSTANCE_CAST((o), GST_TYPE_CF_REALTIME_BASE, GstCfRealtimeBase))

namespace cfr {
class ElementState;
}

struct GstCfRealtimeBase {
  GstBin parent;
  cfr::ElementState* state;  // made by the subclass's init, freed in finalize
};

struct GstCfRealtimeBaseClass {
  GstBinClass parent_class;
};

GType gst_cf_realtime_base_get_type();
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GstCfRealtimeBase, gst_object_unref)

namespace cfr {

inline constexpr char kDefaultApiUrl[] = "https://rtc.live.cloudflare.com/v1";
// https://developers.cloudflare.com/realtime/turn/
inline constexpr char kDefaultStunServer[] = "stun://stun.cloudflare.com:3478";

// Values of the properties; under the object lock.
struct ElementSettings {
  std::string app_id, app_secret, app_secret_file, api_url, stun_server, tls_ca_file;
  std::string turn_key_id, turn_key_token, turn_key_token_file, turn_servers;
  std::string stream_url, stream_token, stream_token_file;
  bool relay_only = false;
  int max_retries = -1;
  unsigned retry_timeout_s = 0;
  unsigned turn_ttl_s = 24 * 3600;
};

class ElementState : public Session::Listener {
 public:
  ElementState(GstCfRealtimeBase* element, bool is_source);
  ~ElementState() override;

  GstElement* element() const { return GST_ELEMENT_CAST(element_); }
  GstBin* bin() const { return GST_BIN_CAST(element_); }

  // Any thread: runs on the worker with the session, if there is one by then.
  void post(std::function<void(Session&)> task);
  // Any thread: runs in a thread of its own where states may be changed, if still running.
  void call_async(std::function<void()> task);
  // Any thread: in PAUSED webrtcbin holds what it is given; not while this runs.
  void while_webrtcbin_plays(const std::function<void()>& task);

  GstStateChangeReturn change_state(GstStateChange transition,
                                    const std::function<GstStateChangeReturn()>& chain_up);
  // Any thread: of this element's own session, "" without one.
  std::string session_id() const;
  // True if the message is webrtcbin's own affair and must not leave the element.
  bool swallow_message(GstMessage* message);

  void set_property(guint id, const GValue* value, GParamSpec* pspec);
  void get_property(guint id, GValue* value, GParamSpec* pspec);
  static void install_properties(GObjectClass* object_class);

  // Of the subclass.
  virtual void adjust(SessionSettings& settings) {}  // application thread, at start
  virtual void on_started(Session& session) {}       // worker
  virtual void on_peer_dropped() {}                  // worker or application thread
  virtual void on_stopped() {}                       // application thread, after the worker ended

  // Session::Listener
  void on_connection_state(ConnectionState state) override;
  void on_session_id(const std::string& session_id) override;
  void on_candidate_pair(const Peer::CandidatePair& pair) override;
  void on_new_peer_needed() override;
  bool on_token_refused() override;
  void on_warning(const Error& error) override;
  void on_error(const Error& error) override;

  // Posts ERROR or WARNING with the domain, code and details that fit.
  void post_error(const Error& error, bool warning);

 protected:
  // Application threads and streaming threads: true between start and stop.
  bool running() const;
  Worker* worker_on_worker() { return worker_ptr_; }

 private:
  bool start();
  void stop();
  void stopped();
  bool add_webrtcbin();
  void end_webrtcbin();
  Result<SessionSettings> session_settings(std::string* ca_file);
  ElementSettings settings() const;
  GstStructure* stats() const;  // under the object lock

  GstCfRealtimeBase* element_;
  const bool is_source_;
  // under the object lock
  ElementSettings settings_;
  bool api_url_set_ = false;
  ConnectionState connection_ = ConnectionState::fresh;
  bool was_connected_ = false;  // since the start
  unsigned sessions_ = 0;       // since the start
  std::string session_id_;      // of this element's own session
  Peer::CandidatePair candidate_pair_;
  std::shared_ptr<Worker> worker_;  // between start and stop
  unsigned run_ = 0;                // rises with each start and stop
  // under the state lock
  gref<GstElement> webrtcbin_;
  // worker
  std::shared_ptr<Session> session_;
  Worker* worker_ptr_ = nullptr;
};

}  // namespace cfr

// connection-state
#define GST_TYPE_CF_REALTIME_CONNECTION_STATE (gst_cf_realtime_connection_state_get_type())
GType gst_cf_realtime_connection_state_get_type();
