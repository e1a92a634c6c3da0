/**
 * SECTION:element-cfrealtimesrc
 * @title: cfrealtimesrc
 * @short_description: Play audio and video from the Cloudflare Realtime SFU
 *
 * cfrealtimesrc pulls the tracks of one or more publisher sessions over one connection. Each track
 * is a sometimes pad, which gives what downstream accepts: decoded media first, else encoded, else
 * RTP. Pads that are not linked cost nothing but their bandwidth. Started before the publisher, it
 * waits; a track that its publisher closes ends with EOS and its pad goes, the others play on.
 *
 * ## Through the local SFU (cfrealtime-sfu --port 8080 --app-id demo)
 * |[
 * CFREALTIME_API_URL=http://127.0.0.1:8080/v1 \
 *   gst-launch-1.0 cfrealtimesrc app-id=demo session-id=$S ! autovideosink
 * ]|
 * ## From the service into a file, without decoding (secret in CFREALTIME_APP_SECRET)
 * |[
 * gst-launch-1.0 -e cfrealtimesrc app-id=$APP_ID session-id=$S ! h264parse ! matroskamux ! \
 *   filesink location=camera.mkv
 * ]|
 */
#include "gstcfrealtimesrc.h"

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "gstcfrealtimepad.h"
#include "media/receive_chain.h"

GST_DEBUG_CATEGORY_STATIC(cf_realtime_src_debug);
#define GST_CAT_DEFAULT cf_realtime_src_debug

namespace {

constexpr guint kDefaultLatencyMs = 200;
constexpr unsigned kSilentLooks = 3;  // half a second each

enum { PROP_0, PROP_SESSION_ID, PROP_TRACKS, PROP_LATENCY, PROP_WAIT_TIMEOUT };

using cfr::MediaKind;
using cfr::ReceiveChain;
using cfr::TrackId;

// One pulled track. Members under the element's object lock; the objects they point to are used
// without it.
struct SrcTrack {
  std::string session_id, name, mid;
  std::shared_ptr<ReceiveChain> chain;  // once its media has come
  cfr::gref<GstPad> pad;                // the element's
  bool ended = false;
  uint64_t packets = 0;  // at the last look
  unsigned silent = 0;   // looks without a packet since
};

class SrcState : public cfr::ElementState {
 public:
  explicit SrcState(GstCfRealtimeBase* element) : ElementState(element, true) {}

  void set_own_property(guint id, const GValue* value);
  void end_all();
  void get_own_property(guint id, GValue* value);

  void adjust(cfr::SessionSettings& settings) override;
  void on_started(cfr::Session& session) override;
  void on_peer_dropped() override;
  void on_stopped() override;

  void on_sendable(TrackId, const std::string&, GstPad*) override {}
  void on_track_live(TrackId track, const std::string& mid) override;
  void on_track_closed(TrackId) override {}
  void on_track_failed(TrackId track, const cfr::Error& error, bool retrying) override;
  void on_remote_track(TrackId track, const std::string& session_id,
                       const std::string& name) override;
  void on_remote_track_ended(TrackId track) override;
  void on_remote_track_moved(TrackId before, TrackId now, const std::string& session_id) override;
  void on_watch() override;
  void on_remote_pad(TrackId track, GstPad* webrtc_src) override;

 private:
  using TrackRef = std::shared_ptr<SrcTrack>;

  TrackRef find(TrackId track);
  std::vector<cfr::Publication> publications(std::string* problem);
  void expose(const TrackRef& track, const cfr::Codec& codec, cfr::gref<GstPad> webrtc_src);
  void configure(const TrackRef& track, bool link_made);
  void unusable(const std::weak_ptr<SrcTrack>& weak, cfr::Error error);
  void remove(const TrackRef& track, bool with_eos);
  void take_away(GstPad* pad);
  void resume(const cfr::gref<GstPad>& webrtc_src);

  // under the object lock
  std::map<TrackId, TrackRef> tracks_;
  std::string publisher_, wanted_tracks_;
  guint latency_ms_ = kDefaultLatencyMs;
  guint wait_timeout_s_ = 0;
  bool follows_stream_ = false;
  unsigned next_audio_ = 0, next_video_ = 0;
  guint group_ = 0;          // of the streams of this run
  std::set<GstPad*> going_;  // that somebody is removing
  // Held while pad-added is emitted, and by nobody else: handlers, gst-launch-1.0's among them, do
  // not expect to run in several threads at once.
  std::mutex adding_;
};

SrcState::TrackRef SrcState::find(TrackId track) {
  GST_OBJECT_LOCK(element());
  auto it = tracks_.find(track);
  TrackRef found = it == tracks_.end() ? nullptr : it->second;
  GST_OBJECT_UNLOCK(element());
  return found;
}

// --- what to play ----------------------------------------------------------------------------

// `tracks`: names, or session/name; with names alone they are those of session-id.
std::vector<cfr::Publication> SrcState::publications(std::string* problem) {
  GST_OBJECT_LOCK(element());
  std::string session_id = publisher_, wanted = wanted_tracks_;
  GST_OBJECT_UNLOCK(element());
  std::vector<cfr::Publication> result;
  auto add = [&result](const std::string& session, const std::string& name) {
    for (auto& publication : result)
      if (publication.session_id == session) return publication.names.push_back(name);
    result.push_back({session, {name}});
  };
  g_auto(GStrv) parts = g_strsplit(wanted.c_str(), ",", -1);
  for (char** part = parts; *part; ++part) {
    std::string item = g_strstrip(*part);
    if (item.empty()) continue;
    auto slash = item.find('/');
    std::string session = slash == std::string::npos ? session_id : item.substr(0, slash);
    std::string name = slash == std::string::npos ? item : item.substr(slash + 1);
    if (session.empty() || name.empty()) {
      *problem = "The track \"" + item +
                 "\" of the property tracks lacks a session: set session-id, or write "
                 "session/name.";
      return {};
    }
    add(session, name);
  }
  if (result.empty() && !session_id.empty()) result.push_back({session_id, {}});
  if (result.empty()) *problem = "Nothing to play. Set the property session-id (or tracks).";
  return result;
}

void SrcState::adjust(cfr::SessionSettings& settings) {
  GST_OBJECT_LOCK(element());
  settings.peer.latency_ms = latency_ms_;
  settings.wait_timeout_ms = wait_timeout_s_ * 1000;
  group_ = gst_util_group_id_next();
  follows_stream_ = !settings.stream.url.empty();
  g_auto(GStrv) names = g_strsplit(wanted_tracks_.c_str(), ",", -1);
  for (char** name = names; follows_stream_ && *name; ++name)
    if (*g_strstrip(*name)) settings.stream_tracks.push_back(*name);
  GST_OBJECT_UNLOCK(element());
}

void SrcState::on_started(cfr::Session& session) {
  if (follows_stream_) return;
  std::string problem;
  auto wanted = publications(&problem);
  if (!problem.empty()) {
    cfr::Error error;
    error.kind = cfr::ErrorKind::config;
    error.message = problem;
    post_error(error, false);
  }
  session.follow(std::move(wanted));
}

// --- from the session (worker) ---------------------------------------------------------------

void SrcState::on_remote_track(TrackId id, const std::string& session_id, const std::string& name) {
  auto track = std::make_shared<SrcTrack>();
  track->session_id = session_id;
  track->name = name;
  GST_OBJECT_LOCK(element());
  tracks_[id] = track;
  GST_OBJECT_UNLOCK(element());
}

void SrcState::on_track_live(TrackId id, const std::string& mid) {
  TrackRef track = find(id);
  if (!track) return;
  GST_OBJECT_LOCK(element());
  track->mid = mid;
  auto pad = track->pad;
  GST_OBJECT_UNLOCK(element());
  if (pad) gst_cf_realtime_pad_set_mid(GST_CF_REALTIME_PAD(pad.get()), mid.c_str());
}

void SrcState::on_track_failed(TrackId id, const cfr::Error& error, bool retrying) {
  TrackRef track = find(id);
  cfr::Error named = error;
  if (track) named.track = track->name;
  if (retrying) {
    // Not there yet: said quietly, once per state of affairs.
    gst_element_post_message(
        element(),
        gst_message_new_element(
            GST_OBJECT(element()),
            gst_structure_new("cfrealtime-waiting", "track", G_TYPE_STRING, named.track.c_str(),
                              "reason", G_TYPE_STRING, named.message.c_str(), nullptr)));
    return;
  }
  GST_OBJECT_LOCK(element());
  tracks_.erase(id);
  bool others = !tracks_.empty();
  GST_OBJECT_UNLOCK(element());
  if (track) call_async([this, track] { remove(track, true); });
  post_error(named, others);
}

void SrcState::on_remote_track_ended(TrackId id) {
  TrackRef track = find(id);
  if (!track) return;
  GST_OBJECT_LOCK(element());
  tracks_.erase(id);
  track->ended = true;
  GST_OBJECT_UNLOCK(element());
  call_async([this, track] { remove(track, true); });
}

void SrcState::on_remote_track_moved(TrackId before, TrackId now, const std::string& session_id) {
  GST_OBJECT_LOCK(element());
  auto node = tracks_.extract(before);
  TrackRef track;
  if (node) {
    track = node.mapped();
    track->session_id = session_id;
    node.key() = now;
    tracks_.insert(std::move(node));
  }
  auto pad = track ? track->pad : cfr::gref<GstPad>();
  auto chain = track ? track->chain : nullptr;
  GST_OBJECT_UNLOCK(element());
  if (chain) chain->disconnect();
  if (pad)
    gst_cf_realtime_pad_set_track(GST_CF_REALTIME_PAD(pad.get()), session_id.c_str(),
                                  track->name.c_str());
}

// A track that falls silent may have been closed: worth a question before the next poll. What is
// downstream is told that there is nothing to wait for.
void SrcState::on_watch() {
  bool ask = false;
  std::vector<std::shared_ptr<ReceiveChain>> silent;
  GST_OBJECT_LOCK(element());
  bool playing = GST_STATE(element()) == GST_STATE_PLAYING;
  for (auto& [id, track] : tracks_) {
    if (!track->chain) continue;
    uint64_t packets = track->chain->packets();
    if (packets != std::exchange(track->packets, packets))
      track->silent = 0;
    else if (++track->silent == 1)
      ask = true;
    if (track->silent >= kSilentLooks && playing) silent.push_back(track->chain);
  }
  GST_OBJECT_UNLOCK(element());
  if (ask) post([](cfr::Session& session) { session.media_stopped(); });
  for (auto& chain : silent)
    call_async([chain] { chain->fill_gap(); });  // may be held up downstream
}

void SrcState::on_remote_pad(TrackId id, GstPad* webrtc_src) {
  TrackRef track = find(id);
  auto pad = cfr::gref<GstPad>::ref(webrtc_src);
  g_autoptr(GstCaps) caps = gst_pad_get_current_caps(webrtc_src);
  if (!caps) caps = gst_pad_query_caps(webrtc_src, nullptr);
  const cfr::Codec* codec = caps ? cfr::codec_for_caps(caps) : nullptr;
  if (!track || !codec) {
    GST_WARNING_OBJECT(element(), "%s: ignoring media of %" GST_PTR_FORMAT,
                       track ? track->name.c_str() : "no track", caps);
    return resume(pad);  // not linked: its packets are dropped
  }
  GST_DEBUG_OBJECT(element(), "track %s sends %" GST_PTR_FORMAT, track->name.c_str(), caps);
  call_async([this, track, codec, pad] { expose(track, *codec, pad); });
}

void SrcState::resume(const cfr::gref<GstPad>& webrtc_src) {
  post([webrtc_src](cfr::Session& session) { session.resume(webrtc_src.get()); });
}

// --- pads (threads of their own) -------------------------------------------------------------

// The template of one pad: what this track's codec can give.
GstPadTemplate* template_for(const cfr::Codec& codec) {
  cfr::gref<GstCaps> caps = cfr::receivable_caps(codec.kind, &codec);
  return gst_pad_template_new_with_gtype(codec.kind == MediaKind::video ? "video_%u" : "audio_%u",
                                         GST_PAD_SRC, GST_PAD_SOMETIMES, caps.get(),
                                         GST_TYPE_CF_REALTIME_PAD);
}

void SrcState::expose(const TrackRef& track, const cfr::Codec& codec,
                      cfr::gref<GstPad> webrtc_src) {
  GST_STATE_LOCK(element());
  GST_OBJECT_LOCK(element());
  std::shared_ptr<ReceiveChain> old = track->chain;
  cfr::gref<GstPad> pad = track->pad;
  const std::string session_id = track->session_id;
  bool gone = track->ended;
  GST_OBJECT_UNLOCK(element());
  if (gone || !running()) {
    GST_STATE_UNLOCK(element());
    return;
  }
  if (old && &old->codec() == &codec) {  // back after an outage, or from another SSRC
    old->disconnect();
    old->connect(webrtc_src.get());
    GST_STATE_UNLOCK(element());
    resume(webrtc_src);
    return;
  }

  std::string name = pad ? GST_OBJECT_NAME(pad.get()) : "";
  if (!pad) {
    GST_OBJECT_LOCK(element());
    bool video = codec.kind == MediaKind::video;
    name = (video ? "video_" : "audio_") + std::to_string(video ? next_video_++ : next_audio_++);
    GST_OBJECT_UNLOCK(element());
  }
  auto chain = std::make_shared<ReceiveChain>(codec, nullptr);
  // The same wherever this publication is played.
  GST_OBJECT_LOCK(element());
  guint group = group_;
  GST_OBJECT_UNLOCK(element());
  chain->set_stream_id("cfrealtime/" + session_id + "/" + track->name, group);
  chain->set_on_error([this, weak = std::weak_ptr<SrcTrack>(track)](cfr::Error error) {
    unusable(weak, std::move(error));
  });
  gst_bin_add(bin(), chain->bin());
  gst_element_sync_state_with_parent(chain->bin());
  g_autoptr(GstPad) target = gst_element_get_static_pad(chain->bin(), "src");
  bool fresh = !pad;
  if (fresh) {
    g_autoptr(GstPadTemplate) templ = template_for(codec);
    gst_object_ref_sink(templ);
    pad = cfr::gref<GstPad>::sink(gst_cf_realtime_pad_new(name.c_str(), templ));
    auto* own = GST_CF_REALTIME_PAD(pad.get());
    gst_cf_realtime_pad_set_track(own, session_id.c_str(), track->name.c_str());
    gst_pad_set_active(pad.get(), TRUE);
  }
  gst_ghost_pad_set_target(GST_GHOST_PAD(pad.get()), target);
  GST_OBJECT_LOCK(element());
  track->chain = chain;
  track->pad = pad;
  const std::string mid = track->mid;  // of one that is not live yet, on_track_live() tells it
  GST_OBJECT_UNLOCK(element());
  if (!mid.empty()) gst_cf_realtime_pad_set_mid(GST_CF_REALTIME_PAD(pad.get()), mid.c_str());
  if (old) {
    old->disconnect();
    gst_element_set_state(old->bin(), GST_STATE_NULL);
    gst_bin_remove(bin(), old->bin());
  }
  GST_STATE_UNLOCK(element());

  if (fresh) {
    // What it gives follows from what it is linked to, now or later.
    struct Handler {
      SrcState* state;
      std::weak_ptr<SrcTrack> track;
    };
    auto connect = [&](const char* signal, GCallback callback) {
      g_signal_connect_data(
          pad.get(), signal, callback, new Handler{this, track},
          [](gpointer data, GClosure*) { delete static_cast<Handler*>(data); }, GConnectFlags(0));
    };
    connect("linked", G_CALLBACK(+[](GstPad*, GstPad*, Handler* handler) {
              if (auto linked = handler->track.lock()) handler->state->configure(linked, true);
            }));
    connect("unlinked", G_CALLBACK(+[](GstPad*, GstPad*, Handler* handler) {
              if (auto unlinked = handler->track.lock()) handler->state->configure(unlinked, false);
            }));
    GstTagList* tags = gst_tag_list_new(GST_TAG_TITLE, track->name.c_str(), nullptr);
    for (const std::string& comment : {"session-id=" + session_id, "mid=" + mid})
      if (comment.back() != '=')
        gst_tag_list_add(tags, GST_TAG_MERGE_APPEND, GST_TAG_EXTENDED_COMMENT, comment.c_str(),
                         nullptr);
    chain->set_tags(tags);
    GST_INFO_OBJECT(element(), "track %s is pad %s", track->name.c_str(), name.c_str());
    // Its end may come before its turn, and while the application looks at it.
    auto late = [&] {
      GST_OBJECT_LOCK(element());
      bool ended = track->ended || !track->pad;
      GST_OBJECT_UNLOCK(element());
      return ended || !running();
    };
    {
      std::lock_guard one_at_a_time(adding_);
      if (!late()) gst_element_add_pad(element(), pad.get());
    }
    GST_STATE_LOCK(element());
    gone = late();
    GST_STATE_UNLOCK(element());
    if (gone) {
      remove(track, false);
      return take_away(pad.get());
    }
  } else if (gst_pad_is_linked(pad.get())) {
    configure(track, true);
  }
  chain->connect(webrtc_src.get());
  resume(webrtc_src);
  gst_element_post_message(element(), gst_message_new_latency(GST_OBJECT(element())));
}

void SrcState::configure(const TrackRef& track, bool link_made) {
  GST_OBJECT_LOCK(element());
  auto chain = track->chain;
  auto pad = track->pad;
  GST_OBJECT_UNLOCK(element());
  if (!chain || !pad) return;
  if (!link_made) return chain->unconfigure();
  g_autoptr(GstCaps) accepted = gst_pad_peer_query_caps(pad.get(), nullptr);
  auto output = chain->configure(accepted);
  if (!output) unusable(track, output.error());
}

// Any thread. What is wrong with one track is no reason to end the others.
void SrcState::unusable(const std::weak_ptr<SrcTrack>& weak, cfr::Error error) {
  TrackRef track = weak.lock();
  if (!track) return;
  error.track = track->name;
  bool others = false;
  GST_OBJECT_LOCK(element());
  for (auto& [id, other] : tracks_) others = others || (other != track && other->chain);
  GST_OBJECT_UNLOCK(element());
  post_error(error, others);
}

// Several threads may want to: the end of a track, and the stop of all.
void SrcState::take_away(GstPad* pad) {
  gst_pad_set_active(pad, FALSE);
  GST_OBJECT_LOCK(element());
  bool ours = GST_OBJECT_PARENT(pad) == GST_OBJECT(element()) && going_.insert(pad).second;
  GST_OBJECT_UNLOCK(element());
  if (!ours) return;
  gst_element_remove_pad(element(), pad);
  GST_OBJECT_LOCK(element());
  going_.erase(pad);
  GST_OBJECT_UNLOCK(element());
}

void SrcState::remove(const TrackRef& track, bool with_eos) {
  GST_OBJECT_LOCK(element());
  auto chain = std::move(track->chain);
  auto pad = std::move(track->pad);
  track->chain.reset();
  track->pad.reset();
  track->ended = true;
  GST_OBJECT_UNLOCK(element());
  if (!chain) return;
  chain->disconnect();
  if (with_eos) chain->end();
  if (pad) {
    GST_INFO_OBJECT(element(), "track %s ended, pad %s goes", track->name.c_str(),
                    GST_OBJECT_NAME(pad.get()));
    take_away(pad.get());
  }
  gst_element_set_locked_state(chain->bin(), TRUE);
  gst_element_set_state(chain->bin(), GST_STATE_NULL);
  gst_bin_remove(bin(), chain->bin());
}

// EOS asked for from outside, as gst-launch-1.0 -e does: what is downstream is to come to an end.
// It may be stuck, in PAUSED say, which the caller need not know.
void SrcState::end_all() {
  GST_OBJECT_LOCK(element());
  auto tracks = tracks_;
  GST_OBJECT_UNLOCK(element());
  for (auto& [id, track] : tracks) {
    GST_OBJECT_LOCK(element());
    auto chain = track->chain;
    GST_OBJECT_UNLOCK(element());
    if (chain) call_async([chain] { chain->end(); });
  }
}

void SrcState::on_peer_dropped() {
  GST_OBJECT_LOCK(element());
  auto tracks = tracks_;
  GST_OBJECT_UNLOCK(element());
  for (auto& [id, track] : tracks) {
    GST_OBJECT_LOCK(element());
    auto chain = track->chain;
    GST_OBJECT_UNLOCK(element());
    if (chain) chain->disconnect();
  }
}

void SrcState::on_stopped() {
  GST_OBJECT_LOCK(element());
  auto tracks = std::move(tracks_);
  tracks_.clear();
  next_audio_ = next_video_ = 0;
  GST_OBJECT_UNLOCK(element());
  for (auto& [id, track] : tracks) remove(track, false);
  // Those of tracks that have just ended.
  std::vector<cfr::gref<GstPad>> left;
  GST_OBJECT_LOCK(element());
  for (GList* item = element()->srcpads; item; item = item->next)
    left.push_back(cfr::gref<GstPad>::ref(GST_PAD(item->data)));
  GST_OBJECT_UNLOCK(element());
  for (auto& pad : left) take_away(pad.get());
}

// --- properties ------------------------------------------------------------------------------

void SrcState::set_own_property(guint id, const GValue* value) {
  auto text = [value] {
    const char* string = g_value_get_string(value);
    return std::string(string ? string : "");
  };
  GST_OBJECT_LOCK(element());
  switch (id) {
    case PROP_SESSION_ID: publisher_ = text(); break;
    case PROP_TRACKS: wanted_tracks_ = text(); break;
    case PROP_LATENCY: latency_ms_ = g_value_get_uint(value); break;
    case PROP_WAIT_TIMEOUT: wait_timeout_s_ = g_value_get_uint(value); break;
  }
  GST_OBJECT_UNLOCK(element());
  if (id == PROP_SESSION_ID || id == PROP_TRACKS) {
    post([this](cfr::Session& session) {
      if (follows_stream_) return;  // the document says what to play
      std::string problem;
      auto wanted = publications(&problem);
      if (!problem.empty()) GST_DEBUG_OBJECT(element(), "%s", problem.c_str());
      session.follow(std::move(wanted));
    });
  }
}

void SrcState::get_own_property(guint id, GValue* value) {
  GST_OBJECT_LOCK(element());
  switch (id) {
    case PROP_SESSION_ID:
      g_value_set_string(value, publisher_.empty() ? nullptr : publisher_.c_str());
      break;
    case PROP_TRACKS:
      g_value_set_string(value, wanted_tracks_.empty() ? nullptr : wanted_tracks_.c_str());
      break;
    case PROP_LATENCY: g_value_set_uint(value, latency_ms_); break;
    case PROP_WAIT_TIMEOUT: g_value_set_uint(value, wait_timeout_s_); break;
  }
  GST_OBJECT_UNLOCK(element());
}

SrcState* state_of(gpointer element) {
  return static_cast<SrcState*>(GST_CF_REALTIME_BASE(element)->state);
}

}  // namespace

// --- GObject ---------------------------------------------------------------------------------

struct _GstCfRealtimeSrc {
  GstCfRealtimeBase parent;
};

G_DEFINE_TYPE(GstCfRealtimeSrc, gst_cf_realtime_src, GST_TYPE_CF_REALTIME_BASE)

static void gst_cf_realtime_src_set_property(GObject* object, guint id, const GValue* value,
                                             GParamSpec* pspec) {
  if (id >= PROP_SESSION_ID && id <= PROP_WAIT_TIMEOUT)
    state_of(object)->set_own_property(id, value);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
}

static void gst_cf_realtime_src_get_property(GObject* object, guint id, GValue* value,
                                             GParamSpec* pspec) {
  if (id >= PROP_SESSION_ID && id <= PROP_WAIT_TIMEOUT)
    state_of(object)->get_own_property(id, value);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
}

// Nothing inside the bin is a source that could take it.
static gboolean gst_cf_realtime_src_send_event(GstElement* element, GstEvent* event) {
  if (GST_EVENT_TYPE(event) != GST_EVENT_EOS)
    return GST_ELEMENT_CLASS(gst_cf_realtime_src_parent_class)->send_event(element, event);
  gst_event_unref(event);
  state_of(element)->end_all();
  return TRUE;
}

static void gst_cf_realtime_src_init(GstCfRealtimeSrc* self) {
  gst_bin_set_suppressed_flags(GST_BIN(self),
                               GstElementFlags(GST_ELEMENT_FLAG_SOURCE | GST_ELEMENT_FLAG_SINK));
  GST_OBJECT_FLAG_SET(self, GST_ELEMENT_FLAG_SOURCE);
  GST_CF_REALTIME_BASE(self)->state = new SrcState(GST_CF_REALTIME_BASE(self));
}

static void gst_cf_realtime_src_class_init(GstCfRealtimeSrcClass* klass) {
  GObjectClass* object_class = G_OBJECT_CLASS(klass);
  GstElementClass* element_class = GST_ELEMENT_CLASS(klass);
  GST_DEBUG_CATEGORY_INIT(cf_realtime_src_debug, "cfrealtimesrc", 0, "Cloudflare Realtime source");
  object_class->set_property = gst_cf_realtime_src_set_property;
  object_class->get_property = gst_cf_realtime_src_get_property;
  element_class->send_event = gst_cf_realtime_src_send_event;

  const auto playing =
      GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  const auto ready =
      GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property(
      object_class, PROP_SESSION_ID,
      g_param_spec_string("session-id", "Session id",
                          "Session of the publisher to play (the session-id of its "
                          "cfrealtimesink)",
                          nullptr, playing));
  g_object_class_install_property(
      object_class, PROP_TRACKS,
      g_param_spec_string("tracks", "Tracks",
                          "Tracks to play, separated by commas: names of session-id's tracks, or "
                          "session/name to play several publishers over one connection (NULL = all "
                          "that session-id publishes, followed while playing)",
                          nullptr, playing));
  g_object_class_install_property(
      object_class, PROP_LATENCY,
      g_param_spec_uint("latency", "Latency",
                        "Milliseconds that the jitter buffers hold media to even out the network",
                        0, 60000, kDefaultLatencyMs, ready));
  g_object_class_install_property(
      object_class, PROP_WAIT_TIMEOUT,
      g_param_spec_uint("wait-timeout", "Wait timeout",
                        "Seconds to wait for a track that is not there (yet) before an error is "
                        "posted (0 = for ever)",
                        0, G_MAXUINT / 1000, 0, ready));

  for (MediaKind kind : {MediaKind::video, MediaKind::audio}) {
    cfr::gref<GstCaps> caps = cfr::receivable_caps(kind, nullptr);
    gst_element_class_add_pad_template(
        element_class, gst_pad_template_new_with_gtype(
                           kind == MediaKind::video ? "video_%u" : "audio_%u", GST_PAD_SRC,
                           GST_PAD_SOMETIMES, caps.get(), GST_TYPE_CF_REALTIME_PAD));
  }
  gst_element_class_set_static_metadata(
      element_class, "Cloudflare Realtime source", "Source/Network/WebRTC",
      "Plays audio and video, decoded, encoded or as RTP, from the Cloudflare Realtime SFU",
      "The cfrealtime authors");
}
