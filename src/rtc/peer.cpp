#include "rtc/peer.h"

#include <gst/gst.h>

#include <algorithm>

#include "rtc/peer_state.h"

#define GST_CAT_DEFAULT peer_debug()

namespace cfr {

namespace {

// A few candidates in our descriptions are a courtesy: an ICE-lite SFU learns our address from the
// checks we send. So a description waits this long for the first, and never for STUN.
constexpr unsigned kCandidateWaitMs = 30;

Error peer_error(std::string message, std::string detail = {}) {
  Error error;
  error.kind = ErrorKind::peer;
  error.message = std::move(message);
  error.detail = std::move(detail);
  return error;
}

std::string random_token() {
  g_autofree gchar* uuid = g_uuid_string_random();
  return uuid;
}

uint32_t random_ssrc() {
  uint32_t ssrc = 0;
  while (ssrc == 0) ssrc = g_random_int();
  return ssrc;
}

bool has_element(const char* name) {
  GstElementFactory* factory = gst_element_factory_find(name);
  if (factory) gst_object_unref(factory);
  return factory != nullptr;
}

std::set<std::string> receivable_encodings() {
  std::set<std::string> names = {"H264", "H265", "VP8", "VP9", "OPUS", "PCMU", "PCMA"};
  if (has_element("rtpav1depay")) names.insert("AV1");
  return names;
}

// The parameters of a format that concern the other side; payloaders put more into their caps.
bool is_fmtp_field(const std::string& encoding, const std::string& name) {
  static const std::map<std::string, std::set<std::string>> kFields = {
      {"H264", {"packetization-mode", "profile-level-id", "level-asymmetry-allowed"}},
      {"H265", {"profile-space", "profile-id", "tier-flag", "level-id", "tx-mode"}},
      {"VP9", {"profile-id"}},
      {"AV1", {"profile", "level-idx", "tier"}},
      {"OPUS",
       {"stereo", "sprop-stereo", "minptime", "useinbandfec", "usedtx", "maxaveragebitrate",
        "maxplaybackrate", "cbr"}},
  };
  const auto found = kFields.find(encoding);
  return found != kFields.end() && found->second.count(name) > 0;
}

Result<SdpTrack> describe(const Peer::SendTrack& track) {
  SdpTrack out;
  out.id = track.id;
  out.name = track.name;
  const GstCaps* caps = track.caps.get();
  if (!caps || gst_caps_is_any(caps) || gst_caps_is_empty(caps))
    return peer_error("The track has no RTP caps.");
  const GstStructure* s = gst_caps_get_structure(caps, 0);
  const gchar* media = gst_structure_get_string(s, "media");
  const gchar* encoding = gst_structure_get_string(s, "encoding-name");
  const gchar* parameters = gst_structure_get_string(s, "encoding-params");
  guint ssrc = 0;
  if (!media || !encoding || !gst_structure_get_int(s, "payload", &out.format.payload) ||
      !gst_structure_get_int(s, "clock-rate", &out.format.clock_rate) ||
      !gst_structure_get_uint(s, "ssrc", &ssrc) || ssrc == 0 || out.format.payload < 0 ||
      out.format.payload > 127 || out.format.clock_rate <= 0 ||
      (g_strcmp0(media, "audio") != 0 && g_strcmp0(media, "video") != 0))
    return peer_error("The track's RTP caps are incomplete.");
  out.kind = media;
  out.ssrc = ssrc;
  g_autofree gchar* upper = g_ascii_strup(encoding, -1);
  out.format.encoding = upper;
  if (parameters) out.format.parameters = parameters;
  if (out.format.encoding == "OPUS") out.format.parameters = "2";  // RFC 7587 7: always
  for (gint i = 0; i < gst_structure_n_fields(s); i++) {
    const gchar* name = gst_structure_nth_field_name(s, i);
    const gchar* value = gst_structure_get_string(s, name);
    if (!value || !is_fmtp_field(out.format.encoding, name)) continue;
    if (!out.format.fmtp.empty()) out.format.fmtp += ';';
    out.format.fmtp += std::string(name) + "=" + value;
  }
  return out;
}

}  // namespace

GstDebugCategory* peer_debug() {
  static GstDebugCategory* const category =
      _gst_debug_category_new("cfrealtime", 0, "Cloudflare Realtime client");
  return category;
}

Peer::State::State(Worker& worker, GstElement* webrtcbin, PeerSettings settings, Listener& listener)
    : worker_(worker),
      webrtcbin_(gref<GstElement>::ref(webrtcbin)),
      settings_(std::move(settings)),
      listener_(listener),
      mail_(std::make_shared<Mailbox>(worker)),
      token_(random_token()),
      dialog_(token_, receivable_encodings(), random_ssrc) {}

void Peer::State::Link::post(std::function<void(State&)> task) const {
  mail->post([weak = weak, task = std::move(task)] {
    if (auto state = weak.lock(); state && !state->closed_) task(*state);
  });
}

void Peer::State::start() {
  configure();
  watch_pads();
  watch_connection();
}

OnWebrtcReply Peer::State::step(std::function<void(State&, const WebrtcReply&)> then) {
  return [weak = weak_from_this(), id = exchange_, then = std::move(then)](const WebrtcReply& r) {
    const auto state = weak.lock();
    if (!state || state->closed_ || state->exchange_ != id) return;
    if (!r.ok) {
      state->fail(peer_error("webrtcbin refused a session description.", r.error));
      return;
    }
    then(*state, r);
  };
}

void Peer::State::fail(Error error) {
  GST_DEBUG_OBJECT(webrtcbin_.get(), "exchange failed: %s (%s)", error.message.c_str(),
                   error.detail.c_str());
  exchange_++;
  waiting_for_candidates_ = false;
  candidate_timer_.cancel();
  auto offer = std::exchange(on_offer_, nullptr);
  auto remote = std::exchange(on_remote_, nullptr);
  auto answer = std::exchange(on_answer_, nullptr);
  if (offer) offer(error);
  if (remote) remote(error);
  if (answer) answer(error);
}

void Peer::State::create_offer(const std::vector<SendTrack>& tracks, Callback<Offer> done) {
  if (on_offer_ || on_remote_ || on_answer_) {
    done(peer_error("Another description is under way."));
    return;
  }
  exchange_++;
  on_offer_ = std::move(done);
  for (const SendTrack& track : tracks) {
    if (dialog_.has_track(track.id)) continue;
    Result<SdpTrack> description = describe(track);
    Result<std::string> mid =
        description ? dialog_.add_track(*description) : Result<std::string>(description.error());
    if (!mid) {
      mid.error().track = track.name;
      fail(mid.error());
      return;
    }
    // Only what webrtcbin needs to make a section of; the text is the dialog's.
    gref<GstCaps> caps = gref<GstCaps>::adopt(gst_caps_new_simple(
        "application/x-rtp", "media", G_TYPE_STRING, description->kind.c_str(), "encoding-name",
        G_TYPE_STRING, description->format.encoding.c_str(), "payload", G_TYPE_INT,
        description->format.payload, "clock-rate", G_TYPE_INT, description->format.clock_rate,
        "ssrc", G_TYPE_UINT, description->ssrc, "a-mid", G_TYPE_STRING, mid->c_str(), nullptr));
    GstWebRTCRTPTransceiver* transceiver = nullptr;
    g_signal_emit_by_name(webrtcbin_.get(), "add-transceiver",
                          GST_WEBRTC_RTP_TRANSCEIVER_DIRECTION_SENDONLY, caps.get(), &transceiver);
    if (!transceiver) {
      fail(peer_error("webrtcbin made no transceiver."));
      return;
    }
    sent_[track.id].transceiver = gref<GstWebRTCRTPTransceiver>::adopt(transceiver);
  }
  if (sent_.empty()) {
    fail(peer_error("There is no track to offer."));
    return;
  }
  webrtc_create(webrtcbin_.get(), true, mail_, step([](State& self, const WebrtcReply& reply) {
                  Result<SdpDialog::Texts> texts = self.dialog_.offer(reply.sdp);
                  if (!texts) return self.fail(texts.error());
                  self.set_local(true, *texts);
                }));
}

void Peer::State::create_answer(Callback<std::string> done) {
  if (on_offer_ || on_remote_ || on_answer_) {
    done(peer_error("Another description is under way."));
    return;
  }
  exchange_++;
  on_answer_ = std::move(done);
  webrtc_create(webrtcbin_.get(), false, mail_, step([](State& self, const WebrtcReply& reply) {
                  Result<SdpDialog::Texts> texts = self.dialog_.answer(reply.sdp);
                  if (!texts) return self.fail(texts.error());
                  self.set_local(false, *texts);
                }));
}

void Peer::State::set_local(bool is_offer, const SdpDialog::Texts& texts) {
  wire_ = texts.wire;
  GST_TRACE_OBJECT(webrtcbin_.get(), "local description:\n%s", texts.wire.c_str());
  GST_TRACE_OBJECT(webrtcbin_.get(), "for webrtcbin:\n%s", texts.inner.c_str());
  webrtc_set(webrtcbin_.get(), true, is_offer, texts.inner, mail_,
             step([](State& self, const WebrtcReply&) { self.wait_for_candidates(); }));
}

void Peer::State::wait_for_candidates() {
  find_transport();
  waiting_for_candidates_ = true;
  check_gathering();
  if (!candidates_.empty()) finish_soon();
  candidate_timer_.start(worker_, kCandidateWaitMs, [weak = weak_from_this()] {
    if (auto self = weak.lock(); self && self->waiting_for_candidates_) self->finish_local();
  });
}

void Peer::State::on_candidate(std::string candidate) {
  if (candidates_.size() < 64) candidates_.push_back(std::move(candidate));
  if (waiting_for_candidates_) finish_soon();
}

// After the candidates that are already queued.
void Peer::State::finish_soon() {
  link().post([id = exchange_](State& self) {
    if (self.waiting_for_candidates_ && self.exchange_ == id) self.finish_local();
  });
}

void Peer::State::finish_local() {
  waiting_for_candidates_ = false;
  candidate_timer_.cancel();
  const std::string wire = SdpDialog::with_candidates(wire_, candidates_);
  if (auto done = std::exchange(on_offer_, nullptr)) {
    Offer offer;
    offer.sdp = wire;
    for (const auto& [id, sent] : sent_)
      if (auto mid = dialog_.mid_of(id)) offer.mids[id] = *mid;
    done(std::move(offer));
    return;
  }
  check_connection();
  auto done = std::exchange(on_answer_, nullptr);
  if (done) done(wire);
  if (!closed_) place_pads();
}

void Peer::State::set_remote(bool is_offer, const std::string& sdp, Callback<RemoteResult> done) {
  if (on_offer_ || on_remote_ || on_answer_) {
    done(peer_error("Another description is under way."));
    return;
  }
  exchange_++;
  GST_TRACE_OBJECT(webrtcbin_.get(), "remote description:\n%s", sdp.c_str());
  Result<SdpDialog::Remote> remote =
      is_offer ? dialog_.remote_offer(sdp) : dialog_.remote_answer(sdp);
  if (!remote) {
    done(remote.error());
    return;
  }
  GST_TRACE_OBJECT(webrtcbin_.get(), "for webrtcbin:\n%s", remote->inner.c_str());
  on_remote_ = std::move(done);
  remote_result_.rejected_mids = remote->rejected_mids;
  webrtc_set(webrtcbin_.get(), false, is_offer, remote->inner, mail_,
             step([is_offer](State& self, const WebrtcReply&) {
               if (!is_offer) self.find_sink_pads();
               self.check_connection();
               if (self.closed_) return;
               auto done = std::exchange(self.on_remote_, nullptr);
               if (done) done(self.remote_result_);
               if (!self.closed_ && !is_offer) self.place_pads();
             }));
}

void Peer::State::close() {
  if (closed_) return;
  closed_ = true;
  exchange_++;
  mail_->close();
  for (const Handler& handler : handlers_)
    g_signal_handler_disconnect(handler.object.get(), handler.id);
  handlers_.clear();
  candidate_timer_.cancel();
  drop_pads();
  // A transceiver that is still referenced keeps the whole transport.
  sent_.clear();
  jitter_buffers_.clear();
  dtls_.reset();
  ice_.reset();
  rtpbin_.reset();
  webrtcbin_.reset();
  on_offer_ = nullptr;
  on_remote_ = nullptr;
  on_answer_ = nullptr;
  on_pair_.clear();
}

Peer::Peer(Worker& worker, GstElement* webrtcbin, PeerSettings settings, Listener& listener)
    : state_(std::make_shared<State>(worker, webrtcbin, std::move(settings), listener)) {
  g_assert(worker.is_current());
  state_->start();
}

Peer::~Peer() {
  close();
}

void Peer::create_offer(const std::vector<SendTrack>& tracks, Callback<Offer> done) {
  const auto state = state_;
  if (!state->closed_) state->create_offer(tracks, std::move(done));
}

void Peer::set_remote(bool is_offer, const std::string& sdp, Callback<RemoteResult> done) {
  const auto state = state_;
  if (!state->closed_) state->set_remote(is_offer, sdp, std::move(done));
}

void Peer::create_answer(Callback<std::string> done) {
  const auto state = state_;
  if (!state->closed_) state->create_answer(std::move(done));
}

void Peer::close_section(const std::string& mid) {
  if (!state_->closed_) state_->close_section(mid);
}

void Peer::open_section(const std::string& mid) {
  if (!state_->closed_) state_->open_section(mid);
}

GstPad* Peer::sink_pad(uint32_t track) {
  return state_->closed_ ? nullptr : state_->sink_pad(track);
}

void Peer::resume(GstPad* pad) {
  if (!state_->closed_) state_->resume(pad);
}

Peer::Received Peer::received() const {
  return {state_->counters_->rtp, state_->counters_->rtcp};
}

void Peer::candidate_pair(Callback<CandidatePair> done) {
  const auto state = state_;
  if (!state->closed_) state->candidate_pair(std::move(done));
}

void Peer::close() {
  const auto state = state_;
  state->close();
}

}  // namespace cfr
